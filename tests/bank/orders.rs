//! Orders and the bank, with the embedded models on the sample study.

use seer::bank::{RewardSource, SkillId};
use serde_json::{Value, json};

use super::{draft, skill};
use crate::support::Server;

/// A made-up word that only a skill explains.
const JARGON: &str = "QZB";

async fn order(server: &Server, study: &str, text: &str) -> (String, Value) {
    let body = json!({ "study_uid": study, "text": text });
    let (status, order) = server.post_json("/api/v1/orders", &body).await;
    assert_eq!(status, 202, "{order}");
    let id = order["id"].as_str().unwrap().to_owned();
    server.wait(&id).await;
    let (_, record) = server.get_json(&format!("/api/v1/orders/{id}/reasoning")).await;
    (id, record)
}

fn teach(server: &Server) -> SkillId {
    let taught = skill(JARGON, "left putamen");
    let id = taught.id.clone();
    let round = server.app.bank.publish(draft(0, vec![taught])).unwrap();
    server.app.bank.activate(round.number(), "test").unwrap();
    id
}

#[tokio::test]
async fn a_new_bank_begins_with_the_glossary() {
    let server = Server::start().await;
    let (status, bank) = server.get_json("/api/v1/bank/rounds").await;
    assert_eq!(status, 200, "{bank}");
    assert_eq!(server.app.bank.active().number(), 1, "{bank}");
    let ask = json!({ "text": "isolate the larinx", "modality": "CT" });
    let (_, found) = server.post_json("/api/v1/bank/retrieval", &ask).await;
    assert_eq!(found["offers"][0]["target"], "larynx", "{found}");
}

#[tokio::test]
async fn a_skill_teaches_a_word_and_the_order_becomes_an_episode_with_a_reward() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let taught = teach(&server);
    let (id, record) = order(&server, &study, &format!("please segment the {JARGON}")).await;
    let offered = &record["skills"][0];
    assert_eq!(offered["id"], taught.as_str(), "{record:#}");
    assert_eq!((&offered["round"], &offered["withheld"]), (&json!(2), &json!(false)));
    assert!(offered["content"].as_str().unwrap().contains("left putamen"));
    assert_eq!(record["answer"]["targets"][0]["concept"], "left putamen", "{record:#}");

    let bank = &server.app.bank;
    let episode = bank.episode(id.parse().unwrap()).unwrap().expect("an episode");
    assert_eq!(episode.targets, ["left putamen"]);
    assert_eq!(episode.named.is_some(), offered["named"] == true);
    assert!(episode.reward.is_none());
    let kept = serde_json::to_string(&episode).unwrap();
    assert!(!kept.contains(JARGON) && !kept.contains(&study), "{kept}");

    let path = format!("/api/v1/orders/{id}/feedback");
    let (status, problem) = server.post_json(&path, &json!({ "verdict": "reject" })).await;
    assert_eq!(status, 400, "{problem}");
    let reject = json!({ "verdict": "reject", "reason": "wrong_side", "comment": "of Mrs X" });
    let (status, entry) = server.post_json(&path, &reject).await;
    assert_eq!((status, &entry["reward"]), (200, &json!(0.0)), "{entry}");
    let (_, entry) = server.post_json(&path, &json!({ "verdict": "accept" })).await;
    assert_eq!(entry["reward"], 1.0);
    let reward = bank.episode(id.parse().unwrap()).unwrap().unwrap().reward.unwrap();
    assert_eq!((reward.value, reward.source), (1.0, RewardSource::Accepted));
    let (_, list) = server.get_json(&path).await;
    assert_eq!(list["feedback"].as_array().unwrap().len(), 2);
    let evidence = serde_json::to_string(&bank.evidence(10).unwrap()).unwrap();
    assert!(!evidence.contains("Mrs"), "comments stay with the order");
}

#[tokio::test]
async fn a_withheld_skill_is_in_the_record_and_not_in_the_prompt() {
    let engine = crate::support::engine();
    let server = Server::with(|config| config.bank.withhold_rate = 1.0, Some(engine)).await;
    let study = server.stow_sample().await;
    let taught = teach(&server);
    let (_, record) = order(&server, &study, &format!("please segment the {JARGON}")).await;
    let offered = &record["skills"][0];
    assert_eq!((&offered["id"], &offered["withheld"]), (&json!(taught.as_str()), &json!(true)));
    assert_eq!(offered["content"], Value::Null);
    assert_ne!(record["answer"]["targets"][0]["concept"], "left putamen", "{record:#}");
}

/// A reviewer's segmentation: ours with some frames emptied and UIDs of its own.
fn corrected(ours: &[u8]) -> Vec<u8> {
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_dictionary_std::tags;
    let mut object = dicom_object::from_reader(std::io::Cursor::new(ours)).unwrap();
    let uid = format!("2.25.{}", uuid::Uuid::new_v4().as_u128());
    for (tag, value) in [
        (tags::SOP_INSTANCE_UID, uid.clone()),
        (tags::SERIES_INSTANCE_UID, format!("{uid}.1")),
        (tags::MANUFACTURER, "a reviewer's workstation".to_owned()),
    ] {
        let vr = if tag == tags::MANUFACTURER { VR::LO } else { VR::UI };
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    }
    let mut pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().to_vec();
    let half = pixels.len() / 2;
    pixels[..half].fill(0);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels)));
    object.meta_mut().media_storage_sop_instance_uid = uid;
    object.meta_mut().update_information_group_length();
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_corrected_segmentation_gives_the_reward_posted_or_by_stow() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let (id, _) = order(&server, &study, "segment the left putamen").await;
    let url = format!("{}/api/v1/orders/{id}", server.base);
    let ours = server.client.get(format!("{url}/segmentation")).send().await.unwrap();
    let ours = ours.bytes().await.unwrap();
    let (posted, sent) = (corrected(&ours), corrected(&ours));

    let mut body =
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"s.dcm\"\r\n\r\n"
            .to_vec();
    body.extend(&posted);
    body.extend(b"\r\n--b--\r\n");
    let response = server
        .client
        .post(format!("{url}/feedback"))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let entry: Value = response.json().await.unwrap();
    let dice = entry["segments"][0]["dice"].as_f64().unwrap();
    assert!(dice > 0.05 && dice < 0.98, "half of a putamen was taken away: {entry:#}");
    assert_eq!(entry["reward"].as_f64(), Some(dice));

    server
        .post_json(&format!("/api/v1/orders/{id}/feedback"), &json!({ "verdict": "accept" }))
        .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sent).unwrap();
    let (status, stored) = server.stow(&[file.path().to_owned()]).await;
    assert_eq!(status, 200, "{stored}");
    let bank = &server.app.bank;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let reward = bank.episode(id.parse().unwrap()).unwrap().unwrap().reward.unwrap();
        if reward.source == RewardSource::Corrected && (reward.value - dice).abs() < 1e-9 {
            break;
        }
        assert!(std::time::Instant::now() < until, "the segmentation was not compared: {reward:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (_, list) = server.get_json(&format!("/api/v1/orders/{id}/feedback")).await;
    assert_eq!(list["feedback"].as_array().unwrap().last().unwrap()["actor"], "archive");
    let own = json!({ "verdict": "corrected", "sop_instance_uid":
        server.app.orders.get(id.parse().unwrap()).unwrap().result.unwrap().seg_sop_instance_uid.to_string() });
    let (status, problem) = server.post_json(&format!("/api/v1/orders/{id}/feedback"), &own).await;
    assert_eq!(status, 409, "{problem}");
}

/// Two results for one structure of one series agree fully, and neither is a reviewer's word.
#[tokio::test]
async fn our_own_results_are_no_corrections_of_each_other() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let (first, _) = order(&server, &study, "segment the left putamen").await;
    let (second, _) = order(&server, &study, "left putamen please").await;
    let url = format!("{}/api/v1/orders/{first}/segmentation", server.base);
    let ours = server.client.get(url).send().await.unwrap().bytes().await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), corrected(&ours)).unwrap();
    let (status, stored) = server.stow(&[file.path().to_owned()]).await;
    assert_eq!(status, 200, "{stored}");
    // What arrives is looked at in turn: once the correction is there, our own would be, too.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    for id in [&first, &second] {
        let entries = loop {
            let (_, list) = server.get_json(&format!("/api/v1/orders/{id}/feedback")).await;
            let entries = list["feedback"].as_array().unwrap().clone();
            if !entries.is_empty() {
                break entries;
            }
            assert!(std::time::Instant::now() < until, "the correction was not compared");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert_eq!(entries.len(), 1, "{entries:#?}");
        assert!(entries[0]["reward"].as_f64().unwrap() < 0.99, "{entries:#?}");
    }
}

/// A word of the house that the reasoner refuses is what a reviewer would teach.
#[tokio::test]
async fn a_refused_order_is_corrected_with_what_should_have_come() {
    let server = Server::start().await;
    let study = server.stow_sample().await;
    let (good, record) = order(&server, &study, "segment the left putamen").await;
    let text = format!("please segment the {JARGON}");
    let (refused, refusal) = order(&server, &study, &text).await;
    assert_eq!(refusal["answer"]["refusal"]["reason"], "ambiguous", "{refusal:#}");
    let path = format!("/api/v1/orders/{refused}/feedback");
    let reference = record["result"]["seg_sop_instance_uid"].as_str().unwrap();
    let correction = json!({ "verdict": "corrected", "sop_instance_uid": reference });
    let (status, entry) = server.post_json(&path, &correction).await;
    assert_eq!((status, entry["reward"].as_f64()), (200, Some(0.0)), "{entry}");
    assert_eq!(entry["segments"][0]["in_both"], false, "{entry}");
    let episode = server.app.bank.episode(refused.parse().unwrap()).unwrap().expect("an episode");
    assert_eq!(episode.reward.map(|reward| reward.value), Some(0.0));

    let (status, _) = server
        .post_json(&format!("/api/v1/orders/{good}/feedback"), &json!({ "verdict": "accept" }))
        .await;
    assert_eq!(status, 200);
    let labelled = server.app.orders.labelled().unwrap();
    let mut texts: Vec<&str> = labelled.iter().map(|order| order.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, [text.as_str(), "segment the left putamen"]);
    assert!(labelled.iter().all(|order| order.reference.as_str() == reference));
    let series = &record["source"]["series_instance_uid"];
    assert!(labelled.iter().all(|order| *series == order.source.as_str()));
}
