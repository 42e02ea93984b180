//! `auriga-fuzz TARGET --seconds 60`; without a target it lists them.

use auriga_fuzz::{Failure, Hunt, targets};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Feeds everything that reads bytes from outside with bytes that nobody meant.
#[derive(Parser)]
struct Arguments {
    /// What to feed, or `all`
    target: Option<String>,
    /// How long, for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The same seed gives the same inputs
    #[arg(long)]
    seed: Option<u64>,
    /// One input, as it was written after a failure
    #[arg(long)]
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Arguments::parse();
    let Some(wanted) = &options.target else {
        targets::all().iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let chosen = targets::all().into_iter().filter(|(name, _)| wanted == "all" || wanted == name);
    let chosen: Vec<_> = chosen.collect();
    if chosen.is_empty() {
        eprintln!("{wanted}: no such target");
        return ExitCode::FAILURE;
    }
    for (name, make) in chosen {
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        let mut hunt = Hunt::new(make(), seed);
        hunt.watch(move |failure| tell(name, seed, failure));
        let until = Instant::now() + Duration::from_secs(options.seconds);
        let ended = match &options.file {
            Some(file) => match std::fs::read(file) {
                Ok(input) => hunt.feed(&input),
                Err(error) => {
                    eprintln!("{}: {error}", file.display());
                    return ExitCode::FAILURE;
                }
            },
            None => hunt.run(|inputs| inputs % 16 != 0 || Instant::now() < until),
        };
        if let Err(failure) = ended {
            tell(name, seed, &failure);
            return ExitCode::FAILURE;
        }
        println!("{name}: {} inputs, {} outcomes, none bad (seed {seed})", hunt.inputs, hunt.outcomes());
    }
    ExitCode::SUCCESS
}

fn tell(name: &str, seed: u64, failure: &Failure) {
    let file = std::env::temp_dir().join(format!("auriga-fuzz-{name}-{seed}"));
    let kept = std::fs::write(&file, &failure.input);
    eprintln!("{name}: {} (seed {seed})", failure.what);
    match kept {
        Ok(()) => eprintln!("the input: {}, {} bytes", file.display(), failure.input.len()),
        Err(error) => eprintln!("the input can't be written: {error}"),
    }
}
