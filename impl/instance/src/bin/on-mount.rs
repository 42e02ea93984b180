//! The helper of this crate's own tests. Everyone else starts `auriga on-mount`.

use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    auriga_instance::on_mount::run(&std::env::args().next_back().unwrap_or_default())
}
