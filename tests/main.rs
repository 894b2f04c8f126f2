//! One binary for all integration tests: the real router, real SQLite and files in temporary
//! folders, real ONNX graphs.
#![allow(clippy::unwrap_used, missing_docs)]

mod answer;
mod archive;
mod bad_bundles;
mod config;
mod dicom;
mod dicom_seg;
mod eval;
mod families;
mod geometry;
mod http;
mod ohif;
mod orders;
mod pacs;
mod parity;
mod process;
mod reason;
mod rooms;
mod runtime;
mod segment;
mod series;
mod support;
mod ups;
