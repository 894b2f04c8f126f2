//! SEER turns a radiologist's free text and a DICOM study into a DICOM Segmentation and an
//! auditable reasoning record.
//!
//! Data walks through rooms in one direction; a room uses rooms above it, never below
//! (`tests/rooms.rs` holds this):
//!
//! | room | turns | into | never |
//! |---|---|---|---|
//! | [`geometry`] | frames, affines, units | | knows DICOM, does I/O |
//! | [`dicom`] | bytes | instances, UIDs, pixels, DICOM JSON, and back | opens a socket |
//! | [`archive`] | instances | durable, searchable studies | interprets pixels |
//! | [`pacs`] | other nodes | instances, and results back | the only room that dials out |
//! | [`series`] | instances | ordered frames of one stack | reads files |
//! | [`volume`] | a series | voxels and geometry; masks | knows the network or the models |
//! | [`view`] | a volume | views for the reasoner | sees the order |
//! | [`runtime`] | bundles | loaded graphs on named threads | the only room that names `ort` |
//! | [`reason`] | views, text, skills | a trace | touches masks |
//! | [`answer`] | trace text | a typed answer and findings | guesses silently |
//! | [`segment`] | a volume and an answer | masks | reads the order |
//! | [`dicom_seg`] | masks | a DICOM SEG, and back | computes a mask |
//! | [`bank`] | skills and evidence | retrieval, rounds | holds patient text |
//! | [`eval`] | masks and references | Dice, worst case, spread, tables | changes the bank |
//! | [`evolve`] | episodes | candidate rounds, gates, published rounds | publishes without a gate |
//! | [`orders`] | an order | its results, step by step, durably | knows HTTP |
//! | [`http`] | requests | the above | computes |
//!
//! Beside them: [`app`] (everything built once), [`config`], [`telemetry`], [`error`],
//! [`threads`], [`clock`], [`folder_lock`] and [`cli`].

pub mod answer;
pub mod app;
pub mod archive;
pub mod bank;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dicom;
pub mod dicom_seg;
pub mod error;
pub mod eval;
pub mod evolve;
pub mod folder_lock;
pub mod geometry;
pub mod http;
pub mod orders;
pub mod pacs;
pub mod reason;
pub mod runtime;
pub mod segment;
pub mod series;
pub mod telemetry;
pub mod threads;
pub mod view;
pub mod volume;
