//! How the program starts, refuses to start, and stops.

use std::process::Stdio;

use crate::harness::{Peer, ringtide, run_to_end};

/// Runs the binary to its end.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = ringtide(&[]);
    command.args(arguments).envs(environment.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (status, stdout, stderr) = run_to_end(child);
    (status.code(), stdout, stderr)
}

#[test]
fn wrong_settings_end_with_2_one_sentence_and_nothing_touched() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data").display().to_string();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let short = file("short", "too short\n");
    let unknown = file("unknown.toml", "replica = 3\n");
    let broken = file("broken.toml", "replicas = \n");
    let wrong = file("wrong.toml", "replicas = 'many'\n");
    let cases: [(&[&str], &str); 22] = [
        (&["--replicas", "0"], "--replicas"),
        (&["--replicas", "many"], "--replicas"),
        (&["--partitions", "0"], "--partitions"),
        (&["--partitions", "65536"], "--partitions"),
        (&["--capacity", "0"], "--capacity"),
        (&["--durability", "never"], "--durability"),
        (&["--memory", "some"], "--memory"),
        (&["--resp", "nowhere"], "--resp"),
        (&["--resp", "127.0.0.1"], "--resp"),
        (&["--http", "maybe"], "--http"),
        (&["--listen", "127.0.0.1:4001"], "--listen"),
        (&["--bootstrap", "/ip4/300.0.0.1/tcp/1"], "--bootstrap"),
        (&["--cluster", ""], "--cluster"),
        (&["--zone", ""], "--zone"),
        (&["--secret-file", "/does/not/exist"], "--secret-file"),
        (&["--secret-file", &short], "--secret-file"),
        (&["--config", "/does/not/exist"], "--config"),
        (&["--config", &broken], "--config"),
        (&["--config", &unknown], "--replica"),
        (&["--config", &wrong], "--replicas"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--no-such-flag"], "--no-such-flag"),
    ];
    for (arguments, flag) in cases {
        let arguments: Vec<&str> = ["up", "--data-dir", &data_dir].iter().chain(arguments).copied().collect();
        let (code, stdout, stderr) = run(&arguments, &[]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
        assert!(stderr.contains(flag), "{arguments:?}: {stderr}");
        assert!(!folder.path().join("data").exists(), "{arguments:?} made the data folder");
    }
    let (code, _, stderr) = run(&["--data-dir", &data_dir], &[("RINGTIDE_REPLICAS", "none")]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--replicas") && stderr.contains("RINGTIDE_REPLICAS"), "{stderr}");
}

#[test]
fn settings_of_the_file_reach_the_peer_and_the_environment_beats_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringtide.toml");
    std::fs::write(&path, "cluster = 'from-file'\npartitions = 8\nreplicas = 2\n").unwrap();
    let mut peer = Peer::new(&folder.path().join("data"))
        .with(&["--config", &path.display().to_string(), "--replicas", "1"])
        .with_environment("RINGTIDE_CLUSTER", "from-environment")
        .with_environment("RINGTIDE_REPLICAS", "3");
    peer.start();
    let status: std::collections::BTreeMap<String, String> = peer.ask(&["RINGTIDE", "STATUS"]);
    assert_eq!((status["cluster"].as_str(), status["partitions"].as_str(), status["replicas"].as_str()), ("from-environment", "8", "1"));
}

#[test]
fn a_data_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Peer::new(folder.path());
    first.start();
    let (status, stdout, stderr) = Peer::new(folder.path()).run_to_end();
    assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains(&folder.path().display().to_string()), "{stderr}");
    let _: () = first.ask(&["SET", "still", "serving"]);
}

#[test]
fn a_port_that_is_taken_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Peer::new(&folder.path().join("first"));
    first.start();
    let p2p = first.ready().addresses[0].split("/p2p/").next().unwrap().to_owned();
    for (number, (flag, address)) in
        [("--resp", first.ready().resp.clone()), ("--http", first.ready().http.clone()), ("--listen", p2p)].iter().enumerate()
    {
        let data_dir = folder.path().join(format!("other-{number}")).display().to_string();
        let free = |wanted: &str| if *flag == wanted { address.as_str() } else { "127.0.0.1:0" };
        let mut arguments = vec!["--data-dir", &data_dir, "--resp", free("--resp"), "--http", free("--http")];
        if *flag == "--listen" {
            arguments.extend([*flag, address]);
        }
        let (code, stdout, stderr) = run(&arguments, &[]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{flag}: {stderr}");
        assert!(stderr.lines().last().unwrap().contains(address.as_str()), "{flag} {address}: {stderr}");
    }
}

#[test]
fn a_peer_stops_cleanly_and_comes_back_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path());
    peer.start();
    let id = peer.ready().peer.clone();
    let _: () = peer.ask(&["SET", "key", "value"]);
    assert!(peer.log().contains("protected mode"), "says at start that it is in protected mode: {}", peer.log());
    let (status, took, log) = peer.stop();
    assert!(status.success() && took.as_secs() <= 10, "{status} after {took:?}: {log}");
    peer.start();
    assert_eq!(peer.ready().peer, id);
    assert_eq!(peer.ask::<String>(&["GET", "key"]), "value");
    let (status, _, log) = peer.stop();
    assert!(status.success(), "{log}");
}

#[test]
fn another_number_of_partitions_than_the_data_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path()).with(&["--partitions", "16"]);
    peer.start().stop();
    let (status, stdout, stderr) = Peer::new(folder.path()).with(&["--partitions", "32"]).run_to_end();
    assert_eq!((status.code(), stdout.as_str()), (Some(1), ""));
    let sentence = stderr.lines().last().unwrap();
    assert!(sentence.contains("16") && sentence.contains("32"), "{sentence}");
}

#[cfg(unix)]
#[test]
fn the_identity_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path());
    peer.start();
    let mode = std::fs::metadata(folder.path().join("identity")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_secret_is_printed_once_and_is_good_enough_for_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let (code, secret, _) = run(&["secret"], &[]);
    assert_eq!((code, secret.lines().count()), (Some(0), 1));
    let path = folder.path().join("secret");
    std::fs::write(&path, &secret).unwrap();
    let arguments = ["--secret-file", &path.display().to_string(), "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
    let mut peer = Peer::new(&folder.path().join("data")).with(&arguments);
    peer.start();
    assert!(!peer.log().contains(secret.trim()));
}

#[test]
fn help_and_version_go_to_stdout() {
    for (arguments, word) in [(["--help"], "--durability"), (["--version"], env!("CARGO_PKG_VERSION"))] {
        let (code, stdout, stderr) = run(&arguments, &[]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(stdout.contains(word), "{stdout}");
    }
}

#[test]
fn the_program_asks_a_peer_for_people_and_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path()).with(&["--partitions", "4"]);
    peer.start();
    let _: () = peer.ask(&["SET", "key", "value"]);
    let (id, resp) = (peer.ready().peer.clone(), peer.ready().resp.clone());
    for command in [&["status"][..], &["peers"], &["ring"], &["owners", "key"], &["siblings", "key"], &["explain", "key"], &["sync"]] {
        let arguments: Vec<&str> = command.iter().chain(&["--resp", &resp]).copied().collect();
        let (code, table, stderr) = run(&arguments, &[]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command:?}");
        assert!(!table.trim().is_empty());
        let (code, json, stderr) = run(&[&arguments[..], &["--json"]].concat(), &[]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command:?}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        match command[0] {
            "status" => assert_eq!((&json["peer"], &json["members"]), (&id.as_str().into(), &1.into())),
            "peers" => assert_eq!((&json[0]["peer"], &json[0]["state"]), (&id.as_str().into(), &"up".into())),
            "ring" => assert_eq!(json, serde_json::json!([[id], [id], [id], [id]])),
            "owners" => assert_eq!(json, serde_json::json!([id])),
            "siblings" => assert_eq!(json["values"], serde_json::json!(["value"])),
            _ => assert!(json.is_object()),
        }
    }
    peer.stop();
    let (code, stdout, stderr) = run(&["status", "--resp", &resp], &[]);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.contains(&resp) && stderr.contains("--resp"), "{stderr}");
}
