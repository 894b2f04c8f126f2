//! DICOMweb against Orthanc on the same machine, in the same run, with the same client.
//!
//! Each line is our time over Orthanc's; both sync every instance before they acknowledge it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_object::meta::FileMetaTableBuilder;
use seer::app::App;
use seer::config::Config;
use seer::http;

#[path = "../peers_orthanc/server.rs"]
mod server;

use server::Orthanc;

const SLICES: u32 = 500;
const STUDIES: u32 = 10_000;
const SIDE: u16 = 512;
/// Instances in one request.
const BATCH: usize = 50;
const REPEATS: usize = 5;
const STUDY: &str = "1.2.826.0.1.3680043.2.1143.500";

/// Runs everything; skipped loudly where Orthanc is not installed.
pub fn run() -> Result<()> {
    let Some(orthanc) = Orthanc::start() else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let ours = Ours::start().await?;
        let peers = Peers {
            client: reqwest::Client::new(),
            bases: [ours.base.clone(), orthanc.base.clone()],
        };
        peers.store(&format!("STOW of {SLICES} CT slices"), (1..=SLICES).map(slice)).await?;
        peers.store(&format!("STOW of {STUDIES} small studies"), (1..=STUDIES).map(study)).await?;
        let series = format!("/studies/{STUDY}/series/{STUDY}.1");
        let json = "application/dicom+json";
        for (what, path) in [
            ("QIDO of 101 newest studies", "/studies?limit=101&includefield=00081030".to_owned()),
            ("QIDO by part of a name", "/studies?limit=101&PatientName=*NAME77*".to_owned()),
            ("QIDO by dates", "/studies?limit=101&StudyDate=20200101-20200131".to_owned()),
            ("QIDO of a series' instances", format!("{series}/instances")),
            ("metadata of a series", format!("{series}/metadata")),
        ] {
            peers.read(what, &[path], json).await?;
        }
        let octets = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*";
        let frames: Vec<String> =
            (1..=100).map(|n| format!("{series}/instances/{STUDY}.1.{n}/frames/1")).collect();
        peers.read("100 frames, one by one", &frames, octets).await?;
        let whole = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
        peers.read("retrieve of a series", &[series], whole).await
    })
}

struct Ours {
    base: String,
    _folder: tempfile::TempDir,
}

impl Ours {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = Config::default();
        config.storage.path = folder.path().to_owned();
        let app = App::with_engine(config, None)?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        tokio::spawn(http::serve(app, listener, std::future::pending()));
        Ok(Self { base, _folder: folder })
    }
}

struct Peers {
    client: reqwest::Client,
    bases: [String; 2],
}

impl Peers {
    async fn store(&self, what: &str, files: impl Iterator<Item = Vec<u8>>) -> Result<()> {
        let files: Vec<Vec<u8>> = files.collect();
        let bodies: Vec<bytes::Bytes> = files.chunks(BATCH).map(body).collect();
        let mut times = [Duration::ZERO; 2];
        for (base, time) in self.bases.iter().zip(&mut times) {
            let begun = Instant::now();
            for body in &bodies {
                let response = self
                    .client
                    .post(format!("{base}/dicom-web/studies"))
                    .header(
                        "content-type",
                        "multipart/related; type=\"application/dicom\"; boundary=between",
                    )
                    .header("accept", "application/dicom+json")
                    .body(body.clone())
                    .send()
                    .await?;
                let status = response.status();
                let text = response.text().await?;
                ensure!(status == 200, "{base} answered {status}: {text}");
            }
            *time = begun.elapsed();
        }
        super::line(&format!("{what}, seer / Orthanc"), times[0], times[1]);
        Ok(())
    }

    async fn read(&self, what: &str, paths: &[String], accept: &str) -> Result<()> {
        let mut times = [Duration::MAX; 2];
        let mut sizes = [0; 2];
        for ((base, time), size) in self.bases.iter().zip(&mut times).zip(&mut sizes) {
            for _ in 0..REPEATS {
                let begun = Instant::now();
                *size = 0;
                for path in paths {
                    let request = self.client.get(format!("{base}/dicom-web{path}"));
                    let response = request.header("accept", accept).send().await?;
                    let status = response.status();
                    ensure!(status == 200, "{base}{path} answered {status}");
                    *size += response.bytes().await.context("body")?.len();
                }
                *time = (*time).min(begun.elapsed());
            }
        }
        println!("{what}: {} bytes from seer, {} from Orthanc", sizes[0], sizes[1]);
        super::line(&format!("{what}, seer / Orthanc"), times[0], times[1]);
        Ok(())
    }
}

fn body(files: &[Vec<u8>]) -> bytes::Bytes {
    let mut body = Vec::new();
    for file in files {
        body.extend_from_slice(b"--between\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--between--\r\n");
    body.into()
}

/// One CT slice of the long series.
fn slice(number: u32) -> Vec<u8> {
    let pixels =
        (0..u32::from(SIDE) * u32::from(SIDE)).map(|n| (n * 7 + number * 131) as u16 % 4096);
    file(STUDY, number, SIDE, pixels.collect(), "20240229")
}

/// A study of one small instance.
fn study(number: u32) -> Vec<u8> {
    let date = format!("20{:02}{:02}{:02}", number % 24, number % 12 + 1, number % 28 + 1);
    file(&format!("1.2.826.0.1.3680043.2.1143.9.{number}"), number, 4, vec![7; 16], &date)
}

fn file(study: &str, number: u32, side: u16, pixels: Vec<u16>, date: &str) -> Vec<u8> {
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag, vr, value: PrimitiveValue| {
        object.put(DataElement::new(tag, vr, value));
    };
    put(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE.into());
    put(tags::SOP_INSTANCE_UID, VR::UI, format!("{study}.1.{number}").into());
    put(tags::STUDY_DATE, VR::DA, date.into());
    put(tags::STUDY_TIME, VR::TM, "120059".into());
    put(tags::ACCESSION_NUMBER, VR::SH, format!("A{number}").into());
    put(tags::MODALITY, VR::CS, "CT".into());
    put(tags::STUDY_DESCRIPTION, VR::LO, "Thorax".into());
    put(tags::PATIENT_NAME, VR::PN, format!("NAME{number}^GIVEN").into());
    put(tags::PATIENT_ID, VR::LO, format!("P{study}").into());
    put(tags::STUDY_INSTANCE_UID, VR::UI, study.into());
    put(tags::SERIES_INSTANCE_UID, VR::UI, format!("{study}.1").into());
    put(tags::SERIES_NUMBER, VR::IS, "1".into());
    put(tags::INSTANCE_NUMBER, VR::IS, number.to_string().into());
    put(tags::IMAGE_POSITION_PATIENT, VR::DS, format!("0\\0\\{number}").into());
    put(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0".into());
    put(tags::PIXEL_SPACING, VR::DS, "0.7\\0.7".into());
    put(tags::SAMPLES_PER_PIXEL, VR::US, 1_u16.into());
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into());
    put(tags::ROWS, VR::US, side.into());
    put(tags::COLUMNS, VR::US, side.into());
    put(tags::BITS_ALLOCATED, VR::US, 16_u16.into());
    put(tags::BITS_STORED, VR::US, 12_u16.into());
    put(tags::HIGH_BIT, VR::US, 11_u16.into());
    put(tags::PIXEL_REPRESENTATION, VR::US, 0_u16.into());
    put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into()));
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut bytes = Vec::new();
    let file = object.with_meta(meta).expect("meta information");
    file.write_all(&mut bytes).expect("write to memory");
    bytes
}
