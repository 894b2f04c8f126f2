//! `seer models run`: one part of a bundle on one input.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Ended;
use crate::app;
use crate::cli::segment::read_input;
use crate::config::Config;
use crate::reason::{ReasonRequest, Reasoner};
use crate::runtime::{Bundle, Runtime};
use crate::segment::Backbone;
use crate::threads::{Cancel, Progress};
use crate::view;
use crate::volume::Volume;

/// Runs one part of a bundle on an input and prints what comes out, as JSON.
#[derive(Debug, Args)]
pub(in crate::cli) struct Run {
    /// The bundle's name.
    name: String,
    /// Which of its parts.
    #[arg(value_enum)]
    part: Part,
    /// A folder or files of one DICOM series, or one .nii or .nii.gz file; a reasoner runs without.
    input: Vec<PathBuf>,
    /// The order for a reasoner; a prompt for a backbone, as often as there are prompts.
    #[arg(long, required = true)]
    text: Vec<String>,
    /// Modality of a NIfTI input (CT or MR); guessed from the intensities without it.
    #[arg(long)]
    modality: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    Reasoner,
    Backbone,
}

impl Run {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let volume = match self.input[..] {
            [] => None,
            _ => Some(read_input(&self.input, self.modality.as_deref(), config)?.1),
        };
        let bundle = Bundle::open(&config.models.folder.join(&self.name))?;
        let runtime = Runtime::open_with(app::runtime_settings(config))?;
        let found = match self.part {
            Part::Reasoner => self.reason(config, &bundle, &runtime, volume.as_ref())?,
            Part::Backbone => {
                let volume = volume.as_ref().context("a backbone needs a volume to segment")?;
                self.segment(config, &bundle, &runtime, volume)?
            }
        };
        println!("{}", serde_json::to_string_pretty(&found)?);
        Ok(Ended::Done)
    }

    /// One trace per text, about the views of the bundle's own plan.
    fn reason(
        &self,
        config: &Config,
        bundle: &Bundle,
        runtime: &Runtime,
        volume: Option<&Volume>,
    ) -> anyhow::Result<Value> {
        let plan = &bundle.reasoner()?.view_plan;
        let views = volume.map(|volume| view::render(volume, plan)).transpose()?;
        let views = views.unwrap_or_default();
        let reasoner = Reasoner::load(bundle, runtime, &app::reasoner_settings(config))?;
        let traces = self.text.iter().map(|text| {
            let request = ReasonRequest::new(&views, text);
            reasoner.reason(request, &Cancel::new(), &Progress::silent())
        });
        let traces: Vec<_> = traces.collect::<Result<_, _>>()?;
        let sha256: Vec<_> = views.iter().map(|view| &view.sha256).collect();
        let provider = runtime.provider();
        Ok(json!({"bundle": self.name, "provider": provider, "views": sha256, "traces": traces}))
    }

    /// One mask per text, described.
    fn segment(
        &self,
        config: &Config,
        bundle: &Bundle,
        runtime: &Runtime,
        volume: &Volume,
    ) -> anyhow::Result<Value> {
        let backbone = Backbone::load(bundle, runtime, app::backbone_settings(config))?;
        let found = backbone.segment(volume, &self.text, &Cancel::new(), &Progress::silent())?;
        let masks = self.text.iter().zip(&found.masks).zip(&found.mean_logits);
        let masks: Vec<_> = masks
            .map(|((prompt, mask), mean_logit)| {
                json!({
                    "prompt": prompt,
                    "voxel_count": mask.voxel_count(),
                    "volume_ml": mask.volume_ml(),
                    "mean_logit": mean_logit,
                    "sha256": mask.sha256(),
                })
            })
            .collect();
        Ok(json!({
            "bundle": self.name,
            "provider": runtime.provider(),
            "threshold_logit": backbone.threshold_logit(),
            "patch_count": found.patch_count,
            "seconds": {
                "embed": found.timings.embed.as_secs_f64(),
                "prepare": found.timings.prepare.as_secs_f64(),
                "infer": found.timings.infer.as_secs_f64(),
            },
            "masks": masks,
        }))
    }
}
