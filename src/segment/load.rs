//! A bundle's backbone, loaded and held against its manifest, by family.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::bank::Bank;
use super::cache::Cache;
use super::network::Network;
use super::sam3::Sam3;
use super::tokens::PromptTokenizer;
use super::words::{BATCH_MAX, TextEncoder};
use super::{BackboneSettings, Model, Patches, Reader, SegmentError, tiles};
use crate::runtime::contract::{self, GraphSpec};
use crate::runtime::manifest::{
    Average, BackboneManifest, Sam3Manifest, TextSettings, VolumeTextManifest, VoxtellManifest,
};
use crate::runtime::{Bundle, Graph, Port, Runtime, RuntimeError};

/// Loads the graphs of a bundle's backbone.
pub(super) fn model(
    bundle: &Bundle,
    runtime: &Runtime,
    settings: &BackboneSettings,
) -> Result<Model, SegmentError> {
    let manifest = bundle.backbone()?;
    let loader = Loader { bundle, runtime, settings };
    match manifest {
        BackboneManifest::Voxtell(manifest) => loader.voxtell(manifest),
        BackboneManifest::VolumeText(manifest) => loader.volume_text(manifest),
        BackboneManifest::Sam3(manifest) => loader.sam3(manifest),
    }
}

struct Loader<'a> {
    bundle: &'a Bundle,
    runtime: &'a Runtime,
    settings: &'a BackboneSettings,
}

/// Where embeddings come from.
struct TextParts<'a> {
    bank: Option<&'a str>,
    encoder: Option<&'a str>,
    tokenizer: Option<&'a str>,
    settings: &'a TextSettings,
    width: usize,
}

impl Loader<'_> {
    fn voxtell(&self, manifest: &VoxtellManifest) -> Result<Model, SegmentError> {
        tiles::check_settings(&manifest.preprocessing)?;
        let [image, prompt, mask] = contract::voxtell(manifest);
        let network = Network::Voxtell {
            image: Box::new(self.graph(&image)?),
            prompt: Box::new(self.graph(&prompt)?),
            mask: Box::new(self.graph(&mask)?),
        };
        network.check()?;
        let encoder = self.text_encoder(&TextParts {
            bank: manifest.text_bank.as_deref(),
            encoder: manifest.text_encoder.as_deref(),
            tokenizer: manifest.text_tokenizer.as_deref(),
            settings: &manifest.text,
            width: manifest.embedding_size,
        })?;
        Ok(Model::Patches(Box::new(Patches {
            network,
            reader: Reader::Encoder(Box::new(encoder)),
            preprocessing: manifest.preprocessing.clone(),
            average: Average::Logit,
            modality_ids: BTreeMap::new(),
        })))
    }

    fn volume_text(&self, manifest: &VolumeTextManifest) -> Result<Model, SegmentError> {
        tiles::check_settings(&manifest.preprocessing)?;
        let segmenter = self.graph(&contract::segmenter(manifest))?;
        let reader = match manifest.embedding_size {
            Some(width) => Reader::Encoder(Box::new(self.text_encoder(&TextParts {
                bank: manifest.text_bank.as_deref(),
                encoder: manifest.text_encoder.as_deref(),
                tokenizer: manifest.text_tokenizer.as_deref(),
                settings: &manifest.text,
                width,
            })?)),
            None => {
                let tokenizer = self.need(manifest.text_tokenizer.as_deref(), "text_tokenizer")?;
                let length = fixed(segmenter.input("input_ids"), 1);
                let text = &manifest.text;
                let tokenizer = PromptTokenizer::load(self.bundle, tokenizer, text, length)?;
                Reader::Tokenizer(Box::new(tokenizer), text.lowercase)
            }
        };
        let network = Network::VolumeText { segmenter, channels: manifest.channels };
        network.check()?;
        let asks = network.asks_modality() || reader.asks_modality();
        if asks && !manifest.modality_ids.contains_key("default") {
            let value = "without a default, but a graph has modality_id".to_owned();
            return Err(SegmentError::Setting { key: "modality_ids", value });
        }
        Ok(Model::Patches(Box::new(Patches {
            network,
            reader,
            preprocessing: manifest.preprocessing.clone(),
            average: manifest.average,
            modality_ids: manifest.modality_ids.clone(),
        })))
    }

    fn sam3(&self, manifest: &Sam3Manifest) -> Result<Model, SegmentError> {
        let [text, image, mask] = contract::sam3(manifest);
        let (token_count, width) = (manifest.text.max_tokens, manifest.embedding_size);
        let sam3 = Sam3 {
            image: self.graph(&image)?,
            mask: self.graph(&mask)?,
            slices: manifest.slices.clone(),
            token_count,
            width,
        };
        sam3.check()?;
        // SAM3's text encoder never reads a prompt without its tokenizer's special tokens.
        let settings = TextSettings { special_tokens: true, ..manifest.text.clone() };
        let tokenizer = PromptTokenizer::load(
            self.bundle,
            &manifest.text_tokenizer,
            &settings,
            Some(token_count),
        )?;
        let text = Box::new(TextEncoder {
            bank: Bank::default(),
            cache: Mutex::new(self.cache(token_count * width)),
            live: Some((tokenizer, self.graph(&text)?)),
            lowercase: settings.lowercase,
            width: token_count * width,
            batch_max: 1,
            output: "text_features",
        });
        Ok(Model::Slices { sam3: Box::new(sam3), text })
    }

    fn graph(&self, spec: &GraphSpec) -> Result<Graph, RuntimeError> {
        self.runtime.load_checked(self.bundle, spec)
    }

    fn text_encoder(&self, parts: &TextParts<'_>) -> Result<TextEncoder, SegmentError> {
        let bank = match parts.bank {
            Some(file) => Bank::read(&self.bundle.path(file), parts.width)?,
            None => Bank::default(),
        };
        let live = match parts.encoder {
            Some(file) => {
                let graph = self.graph(&contract::text_encoder(file, parts.width))?;
                let tokenizer = self.need(parts.tokenizer, "text_tokenizer")?;
                let length = fixed(graph.input("input_ids"), 1);
                Some((
                    PromptTokenizer::load(self.bundle, tokenizer, parts.settings, length)?,
                    graph,
                ))
            }
            None => {
                self.need(parts.bank, "text_encoder or text_bank")?;
                None
            }
        };
        let batch = live.as_ref().and_then(|(_, graph)| fixed(graph.input("input_ids"), 0));
        if let Some(count) = batch.filter(|count| *count != 1) {
            let value = format!("fixed to {count} prompts a run");
            return Err(SegmentError::Setting { key: "text_encoder", value });
        }
        Ok(TextEncoder {
            bank,
            cache: Mutex::new(self.cache(parts.width)),
            live,
            lowercase: parts.settings.lowercase,
            width: parts.width,
            batch_max: batch.unwrap_or(BATCH_MAX),
            output: "text_embedding",
        })
    }

    fn cache(&self, width: usize) -> Cache {
        let capacity = self.settings.embeddings_cached_max;
        match &self.settings.embeddings_folder {
            Some(folder) => Cache::open(capacity, width, folder, self.bundle.manifest_sha256()),
            None => Cache::new(capacity, width),
        }
    }

    /// A file that this bundle cannot do without.
    fn need<'f>(&self, file: Option<&'f str>, key: &str) -> Result<&'f str, RuntimeError> {
        file.ok_or_else(|| RuntimeError::Malformed {
            path: self.bundle.path("manifest.toml"),
            reason: format!("its [backbone] needs {key}"),
        })
    }
}

impl Reader {
    fn asks_modality(&self) -> bool {
        match self {
            Self::Encoder(encoder) => {
                let live = encoder.live.as_ref();
                live.is_some_and(|(_, graph)| graph.input("modality_id").is_some())
            }
            Self::Tokenizer(..) => false,
        }
    }
}

/// The length that a graph fixes an axis to.
fn fixed(port: Option<&Port>, axis: usize) -> Option<usize> {
    port.and_then(|port| port.dims.get(axis).copied().flatten())
}
