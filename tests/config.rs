//! Settings: the documented file, refusals and overrides.

use std::io::Write;

use seer::config::{Config, ConfigError, Role};

const DOCUMENTED: &str = include_str!("../config.toml");

fn load(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(text.as_bytes()).expect("write");
    Config::load(Some(file.path()), [])
}

fn load_with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::load(None, variables)
}

fn refusal(result: Result<Config, ConfigError>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn documented_file_equals_the_built_in_defaults() {
    assert_eq!(load(DOCUMENTED).expect("config.toml loads"), Config::default());
}

#[test]
fn documented_file_shows_every_key() {
    for section in toml::Table::try_from(Config::default()).expect("serialises").keys() {
        // The refusal of an unknown key lists all that exist, optional ones included.
        let refused = refusal(load(&format!("[{section}]\nprobe_of_test = 1")));
        assert!(refused.contains("probe_of_test"), "{refused}");
        let (_, listed) = refused.split_once("expected").expect("lists the keys");
        let listed = listed.split("in `").next().expect("first part");
        let keys: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
        assert!(!keys.is_empty(), "{refused}");
        let (_, after) = DOCUMENTED.split_once(&format!("[{section}]\n")).expect(section);
        let shown = after.split("\n[").next().expect("first part");
        for key in keys {
            let found = shown.lines().any(|line| {
                line.trim_start_matches("# ").split_once(" = ").is_some_and(|(k, _)| k == key)
            });
            assert!(found, "config.toml does not show {section}.{key}");
        }
    }
}

#[test]
fn every_key_is_explained_by_the_line_before_it() {
    let lines: Vec<&str> = DOCUMENTED.lines().collect();
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" = ")) {
        let is_key = !line.starts_with('#') || line.split_whitespace().nth(2) == Some("=");
        if is_key {
            assert!(lines[number - 1].starts_with("# "), "line {}: {line}", number + 1);
        }
    }
}

#[test]
fn examples_of_optional_keys_are_accepted() {
    let uncommented: String = DOCUMENTED
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_whitespace().nth(1) == Some("=") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = load(&uncommented).expect("examples load");
    assert_eq!(config.reasoner.max_new_tokens, Some(256));
    assert!(config.http.public_base_url.is_some() && config.telemetry.uid_key.is_some());
}

#[test]
fn refuses_what_it_does_not_know_by_name() {
    let check = |text: &str, expected: &[&str]| {
        let refused = refusal(load(text));
        for part in expected {
            assert!(refused.contains(part), "{refused:?} lacks {part:?}");
        }
        assert!(!refused.contains('\n'), "{refused:?}");
    };
    check("[http]\nbnd = 1", &["[http]", "`bnd`"]);
    check("[htp]\nbind = 1", &["[htp]"]);
    check("[http]\nbind = \"nowhere\"", &["[http]", "bind"]);
    check("[orders]\nqueue_length = \"many\"", &["[orders]", "queue_length"]);
    check("[orders]\nqueue_length = 0", &["orders.queue_length", "0", "at least 1"]);
    check("[reasoner]\ntemperature = 9.0", &["reasoner.temperature", "9"]);
    check("http = 3", &["[http]"]);
    check("[http\nbind = 3", &["line 1"]);
    check("[auth]\napi_keys = [{name = \"a\", sha256 = \"12\", role = \"admin\"}]", &["sha256"]);
    check("[auth]\napi_keys = [{name = \"a\", sha256 = \"12\", role = \"king\"}]", &["king"]);
    check("[http]\ncors_origins = [\"viewer\"]", &["http.cors_origins", "viewer"]);
}

#[test]
fn environment_overrides_the_file() {
    let digest = "0".repeat(64);
    let keys = format!("[{{ name = \"1\", sha256 = \"{digest}\", role = \"orderer\" }}]");
    let config = load_with(&[
        ("SEER_HTTP__BIND", "0.0.0.0:9000"),
        ("SEER_STORAGE__PATH", "8042"),
        ("SEER_ORDERS__QUEUE_LENGTH", "3"),
        ("SEER_RUNTIME__PROVIDER", "cuda"),
        ("SEER_HTTP__PUBLIC_BASE_URL", "https://seer.example"),
        ("SEER_REASONER__TEMPERATURE", "0.5"),
        ("SEER_AUTH__API_KEYS", &keys),
        ("SEER_TEST_DATA", "not a key"),
        ("PATH", "/usr/bin"),
    ])
    .expect("loads");
    assert_eq!(config.http.bind.to_string(), "0.0.0.0:9000");
    assert_eq!(config.storage.path.to_str(), Some("8042"));
    assert_eq!(config.orders.queue_length, 3);
    assert_eq!(config.http.public_base_url.as_deref(), Some("https://seer.example"));
    assert_eq!(config.reasoner.temperature, Some(0.5));
    assert_eq!(config.auth.api_keys[0].role, Role::Orderer);
}

#[test]
fn environment_variables_that_name_no_key_are_refused() {
    assert!(refusal(load_with(&[("SEER_HTP__BIND", "1")])).contains("SEER_HTP__BIND"));
    assert!(refusal(load_with(&[("SEER_HTTP__BND", "1")])).contains("`bnd`"));
}

#[test]
fn refuses_to_be_reachable_without_a_key() {
    for bind in ["0.0.0.0:8042", "192.168.1.5:8042", "[::]:8042"] {
        let refused = refusal(load_with(&[("SEER_HTTP__BIND", bind)]));
        assert!(refused.contains(bind) && refused.contains("auth.api_keys"), "{refused}");
    }
    for bind in ["127.0.0.1:0", "[::1]:8042", "127.1.2.3:80"] {
        assert!(load_with(&[("SEER_HTTP__BIND", bind)]).is_ok(), "{bind}");
    }
}

#[test]
fn keys_do_not_show_in_debug_output() {
    let digest = "ab".repeat(32);
    let text = format!(
        "[auth]\napi_keys = [{{ name = \"x\", sha256 = \"{digest}\", role = \"admin\" }}]\n\
         [telemetry]\nuid_key = \"hush\""
    );
    let shown = format!("{:?}", load(&text).expect("loads"));
    assert!(!shown.contains(&digest) && !shown.contains("hush"), "{shown}");
}
