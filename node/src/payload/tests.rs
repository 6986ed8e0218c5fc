use super::*;

#[test]
fn an_older_nodes_postcard_is_read() {
    let payload = Payload::of(Encoding::Postcard, &("boots", 2_u32)).unwrap();
    assert_eq!(payload.bytes, &b"\x05boots\x02"[..]);
    assert_eq!(payload.read::<(String, u32)>().unwrap(), ("boots".into(), 2));
    assert!(payload.read::<String>().is_err(), "bytes too many");
}
