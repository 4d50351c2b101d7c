//! Chores of the project: tidy, schema, size, conformance.

use std::process::ExitCode;

mod conformance;
mod fuzz;
mod rbac;
mod schema;
mod size;
mod test;
mod tidy;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match command {
        "conformance" => conformance::run(rest),
        "fuzz" => fuzz::run(rest),
        "rbac" => rbac::run(rest),
        "schema" => schema::run(rest),
        "size" => size::run(rest),
        "test" => test::run(rest),
        "tidy" => tidy::run(rest),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("unknown command {other:?}\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const HELP: &str = "usage: cargo xtask COMMAND
  conformance --e2e-test PATH --images TAR [OPTIONS]
                                      run upstream's conformance suite against a fresh cluster; --help says more
  fuzz [--seconds N] [TARGET...]      run the fuzz targets, 60 seconds each; --help says more
  rbac [--check] [--upstream DIR]     generate the bootstrap policy of crate authz from upstream's facts
  schema [--check] [--upstream DIR]   generate crates/schema/src/generated from upstream's facts
  size BINARY                         compare a binary's size with the budget
  test [CARGO OPTIONS]                run all tests; the last line sums them
  tidy                                check rows, bans, file sizes and module comments";
