//! What a message may be: what of it reaches a function over gRPC and HTTP, and what is refused before its SDK ends on it.

use serde_json::json;

use super::support::http;
use super::support::kalix::{Dev, shop};

const INVALID: i32 = 3;

#[test]
fn a_message_without_what_it_must_have_does_not_end_its_functions_process() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("messages-required", shop, 1);
    let mut client = dev.clients().remove(0);
    let at = dev.ingress(0).to_string();
    let post = |json: &str| {
        let headers = [("content-type", "application/json")];
        let reply = http::request(&at, "POST", "/anabranch.test.Desk/Keep", &headers, json).unwrap();
        (reply.status, reply.body)
    };
    let whole = json!({"id": "a", "below": {"id": "b"}, "part": {"name": "c"}});
    let kept = json!({"text": "a string"});
    assert_eq!(client.call("Desk/Keep", whole.clone()), kept);
    assert_eq!(post(&whole.to_string()).0, 200);
    // While an SDK that has ended is started again nothing is answered.
    let path = "/anabranch.test.Desk/Keep";
    for (bytes, what) in [
        (&b""[..], "id of anabranch.test.Old is required"),
        (b"\x0a\x01a\x12\x00", "id of anabranch.test.Old is required"),
        (
            b"\x0a\x01a\x1b\x20\x01\x1c",
            "name of anabranch.test.Old.Part is written as something else",
        ),
    ] {
        let framed = [&[0, 0, 0, 0, bytes.len() as u8], bytes].concat();
        let answer = client.send(path, framed.into(), None);
        assert_eq!(answer.code, INVALID, "{answer:?}");
        assert!(answer.message.contains(what), "{answer:?}");
        assert_eq!(client.call("Desk/Keep", whole.clone()), kept);
    }
    for lacking in ["{}", r#"{"id":"a","below":{}}"#] {
        let (status, said) = post(lacking);
        assert_eq!(status, 400, "{said}");
        assert!(said.contains("id of anabranch.test.Old is required"), "{said}");
        assert_eq!(client.call("Desk/Keep", whole.clone()), kept);
    }
}
