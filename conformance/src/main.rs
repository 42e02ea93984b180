//! `auriga-conformance`: judges Auriga from outside. See `--help`.

fn main() -> std::process::ExitCode {
    auriga_conformance::cli::main()
}
