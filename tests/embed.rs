//! The example that embeds the director does what it says.

#[path = "../examples/embed.rs"]
#[allow(dead_code, reason = "an example has a main of its own")]
mod embed;

#[test]
fn the_embedded_director_sends_the_syn_to_the_server() {
    let told = embed::run().expect("its rules are right");
    let first = told.lines().next().expect("a frame");
    // On port lan, to the server, TTL counted down, 10.77.2.11:8080 as the destination.
    let sent = "lan 02000000020b0200000002010800450000281234400";
    assert!(first.starts_with(sent), "{first}");
    assert!(first.contains("3f06") && first.contains("0a4d01020a4d020b"), "{first}");
    assert!(first.contains("9c401f90"), "{first}");
    assert!(told.contains("-> 10.77.2.11:8080              Masq    3      1          0"), "{told}");
    assert!(told.contains("received 1 = forwarded 1 + answered 0 + dropped 0"), "{told}");
}
