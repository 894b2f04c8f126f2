//! One binary for all integration tests: the real router, real SQLite and files in temporary
//! folders, real ONNX graphs.
#![allow(clippy::unwrap_used, missing_docs)]

mod answer;
mod archive;
mod bank;
mod config;
mod dicom;
mod dicom_seg;
mod geometry;
mod http;
mod orders;
mod process;
mod reason;
mod rooms;
mod runtime;
mod segment;
mod series;
mod support;
