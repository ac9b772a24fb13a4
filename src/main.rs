//! The `annulus` program. Everything it does is in [`annulus::server::main`].
//!
//! What is decided here is the allocator, since that is a property of the program and not of the library.

use std::process::ExitCode;

// Statistics that INFO and memory budgets need, per-thread arenas that suit one thread a core.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    annulus::server::main(std::env::args_os())
}
