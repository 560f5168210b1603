//! Walking, listing and emptying the key space.

use std::collections::BTreeSet;

use ringtide::server::resp::Options;

use super::wire::{Client, Server};

/// The bulk strings of a flat reply.
fn bulks(reply: &str) -> Vec<String> {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    lines.windows(2).filter(|pair| pair[0].starts_with('$')).map(|pair| pair[1].to_owned()).collect()
}

/// Walks all keys with these options; every step of the walk in order.
fn walk(client: &mut Client, options: &str) -> Vec<Vec<String>> {
    let (mut steps, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let reply = client.line(format!("SCAN {cursor} {options}").trim_end());
        let mut met = bulks(&reply);
        assert!(!met.is_empty(), "{reply}");
        cursor = met.remove(0);
        steps.push(met);
        if cursor == "0" {
            return steps;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_and_keys_find_what_is_there() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    for number in 0..100 {
        client.line(&format!("SET string:{number} v"));
        client.line(&format!("SADD set:{number} a b c"));
    }
    client.line("DEL string:7");
    client.line("PEXPIRE string:8 1");
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let steps = walk(&mut client, "COUNT 10");
    assert!(steps.iter().all(|step| step.len() <= 10) && steps.len() >= 20);
    let met: Vec<String> = steps.into_iter().flatten().collect();
    assert_eq!((met.len(), met.iter().collect::<BTreeSet<_>>().len()), (198, 198));
    let all = |steps: Vec<Vec<String>>| steps.into_iter().flatten().collect::<BTreeSet<_>>();
    assert_eq!(all(walk(&mut client, "TYPE set")).len(), 100);
    assert_eq!(all(walk(&mut client, "MATCH *:[3-4] COUNT 1000")), ["string:3", "string:4", "set:3", "set:4"].map(str::to_owned).into());
    assert_eq!(bulks(&client.line("KEYS SET:*")).len(), 0, "case counts");
    assert_eq!(bulks(&client.line("KEYS set:*")).len(), 100);
    let random: BTreeSet<String> = (0..20).flat_map(|_| bulks(&client.line("RANDOMKEY"))).collect();
    assert!(random.len() > 1 && random.iter().all(|key| met.contains(key)), "{random:?}");
    for (line, error) in [
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        ("SCAN 0 COUNT", "-ERR syntax error\r\n"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n"),
        ("FLUSHALL now", "-ERR syntax error\r\n"),
    ] {
        assert_eq!(client.line(line), error);
    }
    assert_eq!(client.line("FLUSHALL"), "+OK\r\n");
    assert_eq!(client.line("RANDOMKEY"), "$-1\r\n");
    assert_eq!(walk(&mut client, "").concat(), Vec::<String>::new());
    client.line("SET after v");
    assert_eq!(client.line("KEYS *"), "*1\r\n$5\r\nafter\r\n");
    server.stop().await;
}
