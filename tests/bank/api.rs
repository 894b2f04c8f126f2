//! The bank over HTTP.

use seer::config::{ApiKey, Role};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::Server;

const SKILLS: &str = concat!(
    r#"{"tag": "ABBR_DISAMBIGUATE", "trigger": "lt hippo", "target": "left hippocampus"}"#,
    "\n",
    r#"{"tag": "PROMPT_NORMALIZE", "trigger": "wee bag", "target": "urinary bladder"}"#,
    "\n",
    r#"{"tag": "PROMPT_NORMALIZE", "trigger": "hip of John Smith", "target": "hip"}"#,
    "\n",
);

async fn import(server: &Server, key: Option<&str>) -> (u16, Value) {
    let mut request = server.client.post(format!("{}/api/v1/bank/import", server.base));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let response =
        request.header("content-type", "application/jsonl").body(SKILLS).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn skills_come_in_are_tried_adopted_retired_and_rolled_back() {
    let server = Server::with(|_| {}, None).await;
    let (status, imported) = import(&server, None).await;
    assert_eq!(status, 200, "{imported}");
    assert_eq!((&imported["added"], &imported["round"]["number"]), (&json!(2), &json!(1)));
    assert_eq!(imported["refused"][0]["line"], 3);
    assert!(!imported.to_string().contains("Smith"));

    let ask = json!({ "text": "pls outlin L hipo thx", "modality": "MR" });
    let (_, before) = server.post_json("/api/v1/bank/retrieval", &ask).await;
    assert_eq!(before["offers"], json!([]), "published is not active");
    let (status, round) = server.post_json("/api/v1/bank/rounds/1/activate", &json!({})).await;
    assert_eq!((status, &round["skill_count"]), (200, &json!(2)));
    let ask = json!({ "text": "pls outlin L hippo thx", "modality": "MR" });
    let (_, found) = server.post_json("/api/v1/bank/retrieval", &ask).await;
    let offer = &found["offers"][0];
    assert_eq!(offer["target"], "left hippocampus", "{found:#}");
    assert_eq!(offer["why"]["phrase"], "lt hippo");

    let id = offer["id"].as_str().unwrap();
    let path = format!("/api/v1/bank/skills/{id}");
    let (_, skill) = server.get_json(&path).await;
    assert_eq!(skill["gain"], json!({ "n_with": 0, "n_without": 0 }), "{skill:#}");
    assert_eq!(server.post_json(&format!("{path}/retire"), &json!({})).await.0, 200);
    let (_, found) = server.post_json("/api/v1/bank/retrieval", &ask).await;
    assert_eq!(found["offers"], json!([]));
    assert_eq!(server.post_json(&format!("{path}/restore"), &json!({})).await.0, 200);
    assert_eq!(server.post_json(&format!("{path}/pin"), &json!({})).await.0, 200);
    assert_eq!(server.post_json(&format!("{path}/retire"), &json!({})).await.0, 409);

    let (_, list) = server.get_json("/api/v1/bank/skills?contains=BAG").await;
    assert_eq!((&list["total"], &list["skills"][0]["trigger"]), (&json!(1), &json!("wee bag")));
    server.post_json("/api/v1/bank/rounds/0/activate", &json!({})).await;
    let (_, rounds) = server.get_json("/api/v1/bank/rounds").await;
    assert_eq!((&rounds["active"], rounds["rounds"].as_array().unwrap().len()), (&json!(0), 2));
    let (_, metrics) = server.get_json("/api/v1/bank/metrics").await;
    assert_eq!(metrics["skill_count"], 0);
    let (_, audit) = server.get_json("/api/v1/bank/audit?limit=3").await;
    let actions: Vec<_> =
        audit["entries"].as_array().unwrap().iter().map(|e| &e["action"]).collect();
    assert_eq!(actions, ["activate", "pin", "restore"]);
    assert_eq!(audit["entries"][0]["actor"], "local");

    let exported = server.client.get(format!("{}/api/v1/bank/export?round=1", server.base));
    let text = exported.send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().count(), 2);
    let prometheus = server.client.get(format!("{}/metrics", server.base));
    let text = prometheus.send().await.unwrap().text().await.unwrap();
    for line in ["seer_bank_skills_count 0", "seer_bank_active_round_number 0"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn only_administrators_change_the_bank() {
    let key = |name: &str, role| ApiKey {
        name: name.into(),
        sha256: hex::encode(Sha256::digest(name)),
        role,
    };
    let keys = vec![key("orderer", Role::Orderer), key("boss", Role::Admin)];
    let server = Server::with(|config| config.auth.api_keys = keys, None).await;
    assert_eq!(import(&server, None).await.0, 401);
    let (status, problem) = import(&server, Some("orderer")).await;
    assert_eq!((status, &problem["kind"]), (403, &json!("forbidden")), "{problem}");
    assert_eq!(import(&server, Some("boss")).await.0, 200);
    for path in ["rounds/1/activate", "skills/seer:0123456789ab/retire"] {
        let url = format!("{}/api/v1/bank/{path}", server.base);
        let status = server.client.post(url).bearer_auth("orderer").send().await.unwrap().status();
        assert_eq!(status.as_u16(), 403, "{path}");
    }
    let url = format!("{}/api/v1/bank/audit", server.base);
    let audit: Value =
        server.client.get(url).bearer_auth("orderer").send().await.unwrap().json().await.unwrap();
    assert_eq!(audit["entries"][0]["actor"], "boss");
}

#[tokio::test]
async fn bad_requests_name_the_thing_and_not_the_text() {
    let server = Server::with(|_| {}, None).await;
    let rows = [
        ("/api/v1/bank/rounds/9/activate", json!({}), 404, "round 9"),
        ("/api/v1/bank/rounds/x/activate", json!({}), 400, "not a number"),
        ("/api/v1/bank/skills/nonsense/pin", json!({}), 400, "skill id of 8"),
        ("/api/v1/bank/skills/seer:00ff00ff00ff/pin", json!({}), 404, "seer:00ff00ff00ff"),
        ("/api/v1/bank/retrieval", json!({ "txt": "liver" }), 400, "txt"),
    ];
    for (path, body, expected, word) in rows {
        let (status, problem) = server.post_json(path, &body).await;
        assert_eq!(status, expected, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap_or_default().contains(word), "{problem}");
    }
}
