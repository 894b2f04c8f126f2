//! One binary for all integration tests: the real router, real SQLite and files in temporary
//! folders, real ONNX graphs.
#![allow(clippy::unwrap_used, missing_docs)]

mod answer;
mod archive;
mod bad_bundles;
mod bank;
mod config;
mod dicom;
mod dicom_seg;
mod eval;
mod evolve;
mod families;
mod geometry;
mod http;
mod mutation;
mod ohif;
mod orders;
mod pacs;
mod parity;
mod peers_orthanc;
mod process;
mod pydicom_files;
mod reason;
mod rooms;
mod runtime;
mod segment;
mod series;
mod support;
mod ups;
