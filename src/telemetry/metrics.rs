//! Every metric, declared once: `seer_<noun>_<unit>`, counters end in `_total`.
//!
//! Labels hold names from our own short lists (routes, states, steps, bundles), never anything
//! from a request.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const REQUESTS: &str = "seer_http_requests_total";
const REQUEST_DURATION: &str = "seer_http_request_duration_seconds";
const INSTANCES: &str = "seer_instances_received_total";
const ORDERS: &str = "seer_orders_finished_total";
const ORDER_DURATION: &str = "seer_order_duration_seconds";
const STEP_DURATION: &str = "seer_order_step_duration_seconds";
const ORDERS_QUEUED: &str = "seer_orders_queued_count";
const ORDERS_RUNNING: &str = "seer_orders_running_count";
const TOKENS: &str = "seer_reasoner_tokens_total";
const PATCHES: &str = "seer_backbone_patches_total";
const BUNDLE: &str = "seer_bundle_info";
const FETCHES: &str = "seer_fetches_total";
const DELIVERIES: &str = "seer_deliveries_total";
const BANK_SKILLS: &str = "seer_bank_skills_count";
const BANK_EPISODES: &str = "seer_bank_episodes_count";
const BANK_FREQUENCY: &str = "seer_bank_tag_retrieval_frequency_ratio";
const BANK_EVIDENCE: &str = "seer_bank_tag_evidence_count";
const BANK_GAIN: &str = "seer_bank_skill_gain_reward";
const SKILLS_RETRIEVED: &str = "seer_bank_skills_retrieved_total";
const SKILLS_NAMED: &str = "seer_bank_skills_named_total";
const REWARDS: &str = "seer_bank_rewards_total";
const BANK_ROUND: &str = "seer_bank_active_round_number";

const BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// The process's metrics; started by the first call.
pub fn recorder() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS_SECONDS)
            .unwrap_or_default();
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Only fails when another recorder was installed; ours then shows nothing, and serves on.
        if metrics::set_global_recorder(recorder).is_ok() {
            describe();
        }
        handle
    })
}

fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by method, route and status");
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "Time to the head of the response");
    describe_counter!(INSTANCES, "Instances received, by outcome: new, already_stored or refused");
    describe_counter!(ORDERS, "Orders that reached a final state, by state");
    describe_histogram!(ORDER_DURATION, Unit::Seconds, "Time from start to final state, by state");
    describe_histogram!(STEP_DURATION, Unit::Seconds, "Time of one step of the walk, by step");
    describe_gauge!(ORDERS_QUEUED, "Orders that wait");
    describe_gauge!(ORDERS_RUNNING, "Orders that are worked on");
    describe_counter!(TOKENS, "Tokens by the reasoner, by kind: prompt or written");
    describe_counter!(PATCHES, "Patches that the backbone encoded");
    describe_counter!(FETCHES, "Attempts to fetch a study, by outcome: done, waiting or failed");
    describe_counter!(DELIVERIES, "Attempts to deliver, by state: delivered, waiting or failed");
    describe_gauge!(BUNDLE, "1 for each loaded bundle, by name, version and provider");
    describe_gauge!(BANK_SKILLS, "Skills of the active round that may be offered");
    describe_gauge!(BANK_EPISODES, "Episodes in the evidence log, by kind: all or rewarded");
    describe_gauge!(BANK_FREQUENCY, "Share of episodes for which a tag was retrieved, by tag");
    describe_gauge!(BANK_EVIDENCE, "Skills in the evidence log, by tag and kind");
    describe_gauge!(BANK_GAIN, "Marginal gain of a skill, by bound: delta, low or high (95 %)");
    describe_gauge!(BANK_ROUND, "Number of the active round of skills");
    describe_counter!(
        SKILLS_RETRIEVED,
        "Skills retrieved for orders, by tag and outcome: offered or withheld"
    );
    describe_counter!(SKILLS_NAMED, "Skills named by the rationale of an order, by tag");
    describe_counter!(REWARDS, "Rewards of orders, by who or what gave them");
}

/// Counts an answered request. `route` is the route's pattern, not the path asked for.
pub fn request_answered(method: &str, route: &str, status: u16, latency: Duration) {
    let (method, route) = (method.to_owned(), route.to_owned());
    counter!(REQUESTS, "method" => method.clone(), "route" => route.clone(),
        "status" => status.to_string())
    .increment(1);
    histogram!(REQUEST_DURATION, "method" => method, "route" => route).record(latency);
}

/// Counts a received instance: `new`, `already_stored` or `refused`.
pub fn instance_received(outcome: &'static str) {
    counter!(INSTANCES, "outcome" => outcome).increment(1);
}

/// Counts an order that reached a final state, and its time from start.
pub fn order_finished(state: &'static str, duration: Duration) {
    counter!(ORDERS, "state" => state).increment(1);
    histogram!(ORDER_DURATION, "state" => state).record(duration);
}

/// Records the time of one step of the walk.
pub fn step_finished(step: &'static str, duration: Duration) {
    histogram!(STEP_DURATION, "step" => step).record(duration);
}

/// Shows how many orders wait and run.
pub fn order_depth(queued: u64, running: u64) {
    gauge!(ORDERS_QUEUED).set(queued as f64);
    gauge!(ORDERS_RUNNING).set(running as f64);
}

/// Counts the tokens of one trace.
pub fn trace_written(prompt_token_count: usize, token_count: usize) {
    counter!(TOKENS, "kind" => "prompt").increment(prompt_token_count as u64);
    counter!(TOKENS, "kind" => "written").increment(token_count as u64);
}

/// Counts encoded patches.
pub fn patches_encoded(count: usize) {
    counter!(PATCHES).increment(count as u64);
}

/// Counts an attempt to fetch a study: `done`, `waiting` for another, or `failed`.
pub fn fetch_tried(outcome: &'static str) {
    counter!(FETCHES, "outcome" => outcome).increment(1);
}

/// Counts an attempt to deliver a result, by the state it left the delivery in.
pub fn delivery_tried(state: &'static str) {
    counter!(DELIVERIES, "state" => state).increment(1);
}

/// Shows a loaded bundle.
pub fn bundle_loaded(name: &str, version: &str, provider: &str) {
    gauge!(BUNDLE, "name" => name.to_owned(), "version" => version.to_owned(),
        "provider" => provider.to_owned())
    .set(1.0);
}

/// Shows the active round of the bank and how many of its skills may be offered.
pub fn bank_active(round: u64, skill_count: u64) {
    gauge!(BANK_ROUND).set(round as f64);
    gauge!(BANK_SKILLS).set(skill_count as f64);
}

/// Shows how many episodes the evidence log has, and how many have a reward.
pub fn bank_episodes(all: u64, rewarded: u64) {
    gauge!(BANK_EPISODES, "kind" => "all").set(all as f64);
    gauge!(BANK_EPISODES, "kind" => "rewarded").set(rewarded as f64);
}

/// Shows what the evidence log says of a tag.
pub fn bank_tag(tag: &str, retrieval_frequency: f64, counts: [(&'static str, u64); 4]) {
    gauge!(BANK_FREQUENCY, "tag" => tag.to_owned()).set(retrieval_frequency);
    for (kind, count) in counts {
        gauge!(BANK_EVIDENCE, "tag" => tag.to_owned(), "kind" => kind).set(count as f64);
    }
}

/// Shows the gain of a skill with its interval.
pub fn bank_gain(skill: &str, delta: f64, [low, high]: [f64; 2]) {
    for (bound, value) in [("delta", delta), ("low", low), ("high", high)] {
        gauge!(BANK_GAIN, "skill" => skill.to_owned(), "bound" => bound).set(value);
    }
}

/// Counts a skill that retrieval brought for an order.
pub fn skill_retrieved(tag: &str, withheld: bool) {
    let outcome = if withheld { "withheld" } else { "offered" };
    counter!(SKILLS_RETRIEVED, "tag" => tag.to_owned(), "outcome" => outcome).increment(1);
}

/// Counts a skill that a rationale named.
pub fn skill_named(tag: &str) {
    counter!(SKILLS_NAMED, "tag" => tag.to_owned()).increment(1);
}

/// Counts a reward of an order.
pub fn order_rewarded(source: &'static str) {
    counter!(REWARDS, "source" => source).increment(1);
}
