//! `seer segment`: one series or NIfTI volume without a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use ndarray::{Array3, Zip};
use uuid::Uuid;

use super::Ended;
use super::progress::WalkProgress;
use crate::answer::Answer;
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::dicom::Instance;
use crate::dicom_seg::SegmentationType;
use crate::error::Finding;
use crate::orders::{
    self, Asked, Engine, OrderSkills, ReasoningRecord, Rephrasing, SegIdentity, Walked,
};
use crate::reason::DecodingOverrides;
use crate::series::{self, Modality, Series};
use crate::telemetry::error_chain;
use crate::threads::Cancel;
use crate::volume::{self, Volume, nifti};

/// Reads one DICOM series or one NIfTI file, of this modality if it is said.
pub(super) fn read_input(
    input: &[PathBuf],
    modality: Option<&str>,
    config: &Config,
) -> anyhow::Result<(Option<Series>, Volume, Vec<Finding>)> {
    if let [file] = input
        && is_nifti(file)
    {
        let (volume, findings) = nifti::read(file, modality.map(Modality::parse))?;
        return Ok((None, volume, findings));
    }
    let (instances, mut findings) = read_instances(input, config)?;
    let (series, found) = series::assemble(instances)?;
    findings.extend(found);
    let (volume, found) = volume::assemble(&series)?;
    findings.extend(found);
    Ok((Some(series), volume, findings))
}

/// Segments what a text asks for.
#[derive(Debug, Args)]
pub(super) struct Segment {
    /// A folder or files of one DICOM series, or one .nii or .nii.gz file.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// The order, in free text.
    #[arg(long)]
    text: String,
    /// Another wording of the order, to compare with; may be repeated.
    #[arg(long = "rephrase", value_name = "TEXT")]
    rephrasings: Vec<String>,
    /// Folder for segmentation.dcm (or .nii.gz), reasoning.json, overlay.png and the views.
    #[arg(long)]
    out: PathBuf,
    /// Modality of a NIfTI input (CT or MR); guessed from the intensities without it.
    #[arg(long)]
    modality: Option<String>,
    /// Leaves frames without any inside pixel out of the SEG.
    #[arg(long)]
    drop_empty_frames: bool,
    /// Writes a LABELMAP instead of a BINARY Segmentation.
    #[arg(long)]
    labelmap: bool,
}

impl Segment {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        config.orders.texts().check(&self.text, &self.rephrasings)?;
        let (series, volume, findings) = read_input(&self.input, self.modality.as_deref(), config)?;
        let engine = app::engine(config)?;
        let progress = Arc::new(WalkProgress::new());
        let showing = Arc::clone(&progress);
        let report: orders::Report = Arc::new(move |step, done| showing.show(step, done));
        let rephrase =
            |text: &String| Rephrasing { text: text.clone(), skills: OrderSkills::default() };
        let rephrasings: Vec<_> = self.rephrasings.iter().map(rephrase).collect();
        let skills = OrderSkills::default();
        let decoding = DecodingOverrides::default();
        let asked =
            Asked { text: &self.text, skills: &skills, decoding, rephrasings: &rephrasings };
        let walked = orders::walk_asked(&engine, &volume, asked, &Cancel::new(), &report);
        progress.finish();
        let mut walked = walked.map_err(|error| anyhow::anyhow!("{}", error.sentence()))?;
        walked.findings.splice(0..0, findings);
        self.write(&engine, series.as_ref(), &volume, walked)
    }

    fn write(
        &self,
        engine: &Engine,
        series: Option<&Series>,
        volume: &Volume,
        mut walked: Walked,
    ) -> anyhow::Result<Ended> {
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        orders::keep_pictures(&self.out, volume, &walked)?;
        let source = match series {
            Some(series) => orders::source_of_series(series, volume),
            None => orders::source_of(volume),
        };
        let mut seg = None;
        if let (Answer::Segment(targets), Some(series)) = (&walked.answer, series) {
            let identity = SegIdentity {
                order_id: Uuid::now_v7(),
                drop_empty_frames: self.drop_empty_frames,
                segmentation_type: if self.labelmap {
                    SegmentationType::Labelmap
                } else {
                    SegmentationType::Binary
                },
                skill_round: None,
                at: Clock::system().now(),
            };
            let (written, found) =
                orders::write_seg(engine, &identity, series, targets, &walked.masks)?;
            walked.findings.extend(found);
            orders::write_whole(&self.out.join("segmentation.dcm"), &written.bytes)?;
            seg = Some(written);
        } else if !walked.masks.is_empty() {
            self.write_nifti(volume, &mut walked)?;
        }
        let mut record = walked.record(engine, &self.text, source, |_| None);
        if let (Some(result), Some(seg)) = (&mut record.result, &seg) {
            result.seg_series_instance_uid = Some(seg.series_uid.to_string());
            result.seg_sop_instance_uid = Some(seg.sop_instance_uid.to_string());
        }
        let text = serde_json::to_string_pretty(&record)?;
        orders::write_whole(&self.out.join("reasoning.json"), text.as_bytes())?;
        Ok(self.tell(&record))
    }

    /// One label map, target 1, 2, 3 …; where masks overlap the later target wins, with a finding.
    fn write_nifti(&self, volume: &Volume, walked: &mut Walked) -> anyhow::Result<()> {
        let mut labels = Array3::<u16>::zeros(volume.voxels.dim());
        let mut overlap_count = 0_usize;
        for (label, mask) in (1_u16..).zip(&walked.masks) {
            Zip::from(&mut labels).and(&mask.voxels).for_each(|target, inside| {
                if *inside {
                    overlap_count += usize::from(*target != 0);
                    *target = label;
                }
            });
        }
        if overlap_count > 0 {
            let message =
                format!("{overlap_count} voxels lie in several targets; the later has them");
            walked.findings.push(Finding::new("targets_overlap", message));
        }
        nifti::write_labels(&self.out.join("segmentation.nii.gz"), &labels, &volume.geometry)?;
        Ok(())
    }

    fn tell(&self, record: &ReasoningRecord) -> Ended {
        for finding in &record.findings {
            println!("note: {}", finding.message);
        }
        if let Some(refusal) = &record.answer.refusal {
            println!("refused: {}", refusal.text);
            if let Some(rationale) = &record.trace.rationale {
                println!("because: {rationale}");
            }
        }
        for segment in record.result.iter().flat_map(|result| &result.segments) {
            println!("{}: {:.1} ml", segment.label, segment.volume_ml);
        }
        if let Some(stability) = &record.stability {
            println!(
                "rephrasings: {:.0} % of the answers agree, mean Dice {:.3}, lowest {:.3}",
                stability.answer_agreement * 100.0,
                stability.pairwise_dice,
                stability.pairwise_dice_worst
            );
        }
        println!("written to {}", self.out.display());
        if record.answer.refusal.is_some() { Ended::Refused } else { Ended::Done }
    }
}

fn is_nifti(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".nii") || name.ends_with(".nii.gz")
}

/// Instances of one series, and what was skipped.
type Instances = (Vec<Arc<Instance>>, Vec<Finding>);

/// Parses every file of the inputs; what is not DICOM is skipped with a finding.
fn read_instances(input: &[PathBuf], config: &Config) -> anyhow::Result<Instances> {
    let limits = config.dicom.limits();
    let (mut instances, mut findings, mut last_error) = (Vec::new(), Vec::new(), None);
    for path in files_of(input)? {
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match Instance::parse(&bytes, &limits) {
            Ok((instance, found)) => {
                instances.push(Arc::new(instance));
                findings.extend(found);
            }
            Err(error) => {
                let sentence = format!("{}: {}", path.display(), error_chain(&error));
                findings.push(Finding::new("file_skipped", format!("skipped {sentence}")));
                last_error = Some(sentence);
            }
        }
    }
    if let (true, Some(error)) = (instances.is_empty(), last_error) {
        bail!("no DICOM instance could be read; the last file says: {error}");
    }
    let mut uids: Vec<_> = instances.iter().map(|i| i.identity().series.clone()).collect();
    uids.sort();
    uids.dedup();
    if uids.len() > 1 {
        bail!("input holds {} series; give the files of one", uids.len());
    }
    Ok((instances, findings))
}

fn files_of(input: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in input {
        if path.is_dir() {
            let entries = std::fs::read_dir(path)
                .with_context(|| format!("cannot read folder {}", path.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_file() {
                    files.push(path);
                }
            }
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("no files in the input");
    }
    Ok(files)
}
