//! The command line: one binary, `seer`.
//!
//! Exit status: 0 done, 3 refused by the reasoner (record written), 2 usage, 1 failure.

mod bank;
mod demo;
mod doctor;
mod eval;
mod evolve;
mod models;
mod pacs;
mod progress;
mod replay;
mod segment;
mod serve;
mod setup;
mod suite;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Free-text orders on DICOM studies become DICOM SEG objects with a reasoning record.
#[derive(Debug, Parser)]
#[command(name = "seer", version, about)]
pub struct Arguments {
    /// Settings; without it, built-in defaults and the `SEER_<SECTION>__<KEY>` environment.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves DICOMweb, orders and pages until stopped.
    Serve,
    /// Segments one series or NIfTI volume without a server.
    Segment(segment::Segment),
    /// Runs an order again from its reasoning record and says whether the same comes out.
    Replay(replay::ReplayRecord),
    /// Sends the sample study and an order through the real server and shows the result.
    Demo(demo::Demo),
    /// Fetches ONNX Runtime from its pinned wheel into an ignored folder.
    Setup(setup::Setup),
    /// Lists or verifies model bundles.
    #[command(subcommand)]
    Models(models::Models),
    /// Runs rounds of SEER-Loop on a suite, or simulates many.
    Evolve(evolve::Evolve),
    /// Looks into the bank of skills and changes it.
    #[command(subcommand)]
    Bank(bank::Bank),
    /// Lists or asks the other nodes of the configuration.
    #[command(subcommand)]
    Pacs(pacs::Pacs),
    /// Measures the models on a suite and writes the paper's tables.
    Eval(eval::Eval),
    /// Makes and reviews training traces from a suite.
    #[command(subcommand)]
    Trace(trace::Trace),
    /// Makes suites of public data sets.
    #[command(subcommand)]
    Suite(suite::Suite),
    /// Prints the OpenAPI document.
    Openapi,
    /// Prints the DICOM conformance statement.
    Conformance,
    /// Says what this machine has and lacks.
    Doctor,
}

/// How a command ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Done.
    Done,
    /// The reasoner refused; the record is written.
    Refused,
}

/// Runs the command line of this process.
pub fn run(arguments: Arguments) -> ExitCode {
    match dispatch(arguments) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Refused) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Arguments) -> anyhow::Result<Ended> {
    if let Command::Openapi = arguments.command {
        println!("{}", crate::http::openapi_json()?);
        return Ok(Ended::Done);
    }
    if let Command::Conformance = arguments.command {
        print!("{}", crate::http::conformance_statement());
        return Ok(Ended::Done);
    }
    let config = Config::load(arguments.config.as_deref(), std::env::vars())?;
    match arguments.command {
        Command::Serve => serve::run(config),
        Command::Segment(segment) => segment.run(&config),
        Command::Replay(replay) => replay.run(&config),
        Command::Demo(demo) => demo.run(config),
        Command::Setup(setup) => setup.run(&config),
        Command::Models(models) => models.run(&config),
        Command::Evolve(evolve) => evolve.run(&config),
        Command::Bank(bank) => bank.run(&config),
        Command::Pacs(pacs) => pacs.run(&config),
        Command::Eval(eval) => eval.run(&config),
        Command::Suite(suite) => suite.run(&config),
        Command::Trace(trace) => trace.run(&config),
        Command::Doctor => doctor::run(&config),
        Command::Openapi | Command::Conformance => Ok(Ended::Done),
    }
}
