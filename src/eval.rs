//! Masks and references into figures: suites, scores, runs, reports, and the traces of SEER-Trace.
//!
//! A [`Suite`] is a folder of labelled cases and requests. A [`runner::Runner`] carries one request
//! through views, reasoner, answer and backbone in one of the paper's configurations; [`scores`]
//! says how good the masks are, over all rephrasings Ω(q) of a request. This room reads the bank
//! and never changes it; it knows no server and no queue.
//!
//! ```no_run
//! use seer::eval::Suite;
//! # fn doc() -> Result<(), Box<dyn std::error::Error>> {
//! let suite = Suite::open("suites/heads".as_ref())?;
//! for group in suite.groups() {
//!     let case = suite.case(&group.case)?;
//!     let reference = case.reference(&group.requests[0].labels)?;
//!     println!("{}: {} wordings, {} voxels", group.name, group.requests.len(), reference.voxel_count());
//! }
//! # Ok(()) }
//! ```

pub mod ask;
mod error;
pub mod evaluate;
pub mod packed;
pub mod pictures;
pub mod random;
pub mod readers;
pub mod report;
pub mod runner;
pub mod scores;
pub mod suite;
pub mod trace;
pub mod words;

pub use error::EvalError;
pub use evaluate::{Evaluation, Row, Scored, Settings};
pub use packed::PackedMask;
pub use report::Report;
pub use runner::{Configuration, Execution, Models, Runner};
pub use suite::{Case, Expect, Group, Mode, Request, Split, Suite};
