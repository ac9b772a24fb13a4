//! `base` and `resp` as the crate `annulus` has them, without the layers above: the fuzzer needs no ring and no runtime.
//! A type that moves to another layer breaks this file's build, not the fuzzer's meaning.

#[path = "../../../src/base/mod.rs"]
pub mod base;
#[path = "../../../src/resp/mod.rs"]
pub mod resp;
