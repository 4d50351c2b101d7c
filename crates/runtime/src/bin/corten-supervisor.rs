//! The pod supervisor as a program of its own, for this crate's tests; products dispatch to the same function.

fn main() {
    std::process::exit(runtime::supervisor::main(std::env::args_os().skip(1)));
}
