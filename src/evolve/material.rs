//! What a round learns from and is judged by.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::EvolveError;
use crate::eval::{Request, Suite};

/// Requests with labels, and whose scans they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// What it is called in reports.
    pub name: String,
    /// Every request, in a fixed order; rounds speak of requests by their index.
    pub requests: Vec<Request>,
    /// The patient of a case, as a code without meaning; a case that is not here is its own patient.
    pub patients: BTreeMap<String, String>,
}

impl Material {
    /// The requests of a suite; patients come from `case.toml`.
    ///
    /// # Errors
    /// When a case's facts cannot be read, or there is no request.
    pub fn of_suite(suite: &Suite) -> Result<Self, EvolveError> {
        let mut patients = BTreeMap::new();
        for case in suite.case_names() {
            if let Some(patient) = suite.case_facts(&case)?.patient {
                patients.insert(case, patient);
            }
        }
        let requests = suite.requests().to_vec();
        if requests.is_empty() {
            return Err(EvolveError::NothingToLearnFrom);
        }
        Ok(Self { name: suite.facts().name.clone(), requests, patients })
    }

    /// The patient of a request.
    pub fn patient_of(&self, request: usize) -> &str {
        let case = &self.requests[request].case;
        self.patients.get(case).unwrap_or(case)
    }

    /// SHA-256 over requests and patients: a resumed round must find the same.
    pub fn digest(&self) -> String {
        let text = serde_json::json!({ "requests": self.requests, "patients": self.patients });
        hex::encode(Sha256::digest(text.to_string()))
    }

    /// Indices of requests by group, in order of case and first appearance; a group's requests are
    /// the phrasings Ω(q).
    pub fn groups(&self, among: &[usize]) -> Vec<Vec<usize>> {
        let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for &index in among {
            let request = &self.requests[index];
            let place = *places.entry((&request.case, &request.group)).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[place].push(index);
        }
        groups.sort_by(|a, b| self.requests[a[0]].case.cmp(&self.requests[b[0]].case));
        groups
    }
}
