//! Our hosts against the original implementations, on toy instances of the original classes.
//!
//! `tests/data/parity/README.md` says how the fixtures came about.

mod backbone;
mod reasoner;
mod slices;
