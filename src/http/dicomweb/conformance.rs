//! The conformance statement (PS3.2 Annex on DICOMweb services), from the tables that the code works
//! by. `seer conformance` prints it; `static/conformance.md` holds it.

use std::fmt::Write;

use super::resource::{ROOT, Resource};
use super::stow_response;
use crate::archive::{Attribute, Level};
use crate::dicom::{TRANSFER_SYNTAXES, is_decodable};
use crate::pacs::{SopClassRoles, sop_class_roles};

/// What became of the files of pydicom; written by a test that reads them.
const FILES: &str = include_str!("../../../static/conformance-files.md");

/// The statement as Markdown.
pub fn statement() -> String {
    let mut text = String::from(INTRODUCTION);
    resources(&mut text, &super::all_resources());
    attributes(&mut text);
    transfer_syntaxes(&mut text);
    text.push_str(BEHAVIOUR);
    reasons(&mut text);
    associations(&mut text);
    text.push_str(FILES);
    text
}

const INTRODUCTION: &str = "# DICOM conformance statement\n\
    \n\
    This page is generated from the tables that the code works by (`seer conformance`).\n\
    SEER is a DICOMweb origin server (PS3.18) for any storage SOP class, with an order service for \
    segmentations beside it.\n\
    Where `pacs.bind` is set, it is a storage and query/retrieve provider for configured nodes as well \
    (PS3.4 Annexes B and C).\n\
    It is for research use.\n\n";

fn resources(text: &mut String, resources: &[Resource]) {
    let _ = writeln!(
        text,
        "## Resources\n\nPaths are below `{ROOT}`. `OPTIONS {ROOT}` (Retrieve Capabilities, PS3.18 \
         §8.9) answers the same table as WADL or JSON.\n\n\
         | transaction | method | path | takes | gives | parameters |\n|---|---|---|---|---|---|"
    );
    for resource in resources {
        let path = resource.path.strip_prefix(ROOT).unwrap_or_default();
        let parameters: Vec<&str> = resource
            .parameters
            .iter()
            .map(|(name, _)| *name)
            .filter(|n| *n != "PatientName")
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | `{path}` | {} | {} | {} |",
            resource.transaction,
            resource.method,
            resource.takes.join(", "),
            resource.gives.join(", "),
            parameters.join(", ")
        );
    }
    text.push('\n');
}

fn attributes(text: &mut String) {
    text.push_str(
        "## Attributes that can be searched\n\n\
         Named by keyword or tag; inside a sequence both parts are joined by a dot.\n\
         A search may name attributes of lower levels: then some child must match.\n\
         `ModalitiesInStudy` is searched as well; several values mean any of them.\n\n\
         | level | attribute | tag | VR |\n|---|---|---|---|\n",
    );
    for attribute in Attribute::all() {
        let level = match attribute.level {
            Level::Study => "study",
            Level::Series => "series",
            Level::Instance => "instance",
        };
        let tag = match attribute.within {
            Some((_, sequence)) => format!("{sequence}.{}", attribute.tag),
            None => attribute.tag.to_string(),
        };
        let _ = writeln!(text, "| {level} | {} | {tag} | {} |", attribute.name(), attribute.vr);
    }
    text.push('\n');
}

fn transfer_syntaxes(text: &mut String) {
    text.push_str(
        "## Transfer syntaxes\n\n\
         Instances are stored and sent in the transfer syntax they came in, whatever it is.\n\
         Those that are decoded can also be had in Explicit VR Little Endian, rendered, and frame by \
         frame without compression.\n\n\
         | UID | name | decoded | type of stored frames |\n|---|---|---|---|\n",
    );
    for syntax in TRANSFER_SYNTAXES {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            syntax.uid,
            syntax.name,
            if is_decodable(syntax.uid) { "yes" } else { "no" },
            syntax.frame_media_type.unwrap_or("application/octet-stream")
        );
    }
    text.push('\n');
}

const BEHAVIOUR: &str = "## Behaviour\n\n\
    - Matching (PS3.4 §C.2.2.2): single value, list of UIDs (commas or backslashes), wildcards `*` and \
    `?`, ranges of dates and times, any item of a sequence. Names match as a whole or by a component \
    group, ASCII letters in any case.\n\
    - Fuzzy matching of names: every word asked for begins a word of the name or has its Soundex; \
    letter case and marks on letters do not count; all component groups are searched.\n\
    - An empty result is 200 with an empty array. `X-Total-Count` tells how many there are; `Warning: \
    299` tells that more can be requested and which parameters were ignored.\n\
    - Texts in answers are UTF-8, and Specific Character Set says ISO_IR 192. DS and IS are JSON \
    numbers.\n\
    - Metadata name bulk data by absolute URL: pixel data, encapsulated documents, and binary values \
    of more than 4096 bytes.\n\
    - Answers carry an entity tag; `If-None-Match` is answered 304. Bulk data can be had in ranges of \
    bytes.\n\
    - A stored instance is acknowledged after its file would survive a loss of power. The same bytes \
    again are acknowledged again; other bytes under a known SOP Instance UID are refused, unless \
    `storage.replace_instances` is set. The 128-byte preamble is zeroed.\n\
    - Studies are refused with 507 and reason A700 when `storage.quota_bytes` is used up, and deleted \
    after `storage.retention_days` when that is set.\n\
    - Not done: annotations in rendered pictures, ICC profiles, presentation states, palettes in \
    segments, colour JPEG-LS, storing of XML.\n\n";

fn associations(text: &mut String) {
    text.push_str(
        "## Associations\n\n\
         Any other storage SOP class, private ones included, is taken, and sent to who retrieves it.\n\n\
         | SOP class | name | user (SCU) | provider (SCP) |\n|---|---|---|---|\n",
    );
    let yes = |does| if does { "yes" } else { "no" };
    for SopClassRoles { uid, name, is_user, is_provider } in sop_class_roles() {
        let _ = writeln!(text, "| {uid} | {name} | {} | {} |", yes(is_user), yes(is_provider));
    }
    text.push_str(ASSOCIATIONS);
}

const ASSOCIATIONS: &str = "\n\
    - Only nodes of `pacs.dimse` are let in, by calling title and address, under our own called title; \
    `may_send` lets one store, `may_query` lets one search and retrieve. Titles and addresses are \
    no authentication.\n\
    - Queries and retrievals (PS3.4 Annex C): levels PATIENT (patient root), STUDY, SERIES and IMAGE. \
    They are hierarchical; relational queries and retrievals, and fuzzy matching of names, by extended \
    negotiation. Combined matching of dates and times and adjustment of time zones are not offered. \
    Identifiers travel in Explicit or Implicit VR Little Endian, and have 1 MiB at most.\n\
    - Keys are the attributes above, matched as above. Every other attribute of the level or a level above \
    is told when asked for, from one instance; where it has a value, it is not matched and the status \
    is FF01. Patients are told by the newest of their studies; studies without Patient ID have none.\n\
    - Answers are in the character set of the query where that has their letters, else in ISO_IR 192. \
    Retrieve AE Title is always told.\n\
    - A query of more than 100000 matches ends with A700, a retrieval of more than 200000 instances is refused \
    with A701. Counts of sub-operations stop at 65535, and 1000 failed UIDs are listed at most.\n\
    - C-MOVE goes to nodes of `pacs.dimse`, by title; A801 to any other title. C-GET needs role selection. Instances \
    are sent in the transfer syntax they are stored in where the receiver takes it, else uncompressed. \
    Of the transfer syntaxes of one context proposed for C-GET, an uncompressed one is chosen; who wants \
    compressed instances proposes a context for each.\n\
    - C-CANCEL ends queries between matches and retrievals between instances, with FE00. All failed is A702, \
    some failed or with warnings B000.\n\n";

fn reasons(text: &mut String) {
    text.push_str("## Failure reasons of Store\n\n| reason | meaning |\n|---|---|\n");
    for (reason, meaning) in stow_response::REASONS {
        let _ = writeln!(text, "| {reason:04X} | {meaning} |");
    }
    text.push('\n');
}
