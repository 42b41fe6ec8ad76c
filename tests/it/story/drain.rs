//! The end of the process: what is open gets its answer, through every module that it needs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::house::{House, Module};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_open_when_the_end_comes_gets_its_answer_through_every_module() {
    let mut house = House::up();
    let token = house.token("alice");
    for module in [Module::Gateway, Module::Cloud] {
        let body = format!(r#"{{"displayName": "Slow at {module:?}"}}"#);
        let (begun, rest) = body.split_at(5);
        let address = house.url(module).replace("http://localhost", "127.0.0.1");
        let mut socket = TcpStream::connect(address).unwrap();
        let head = format!(
            "PATCH /v1/users/me HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{begun}",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        let rest = rest.to_owned();
        let slow = thread::spawn(move || {
            thread::sleep(Duration::from_millis(800));
            socket.write_all(rest.as_bytes()).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            answer
        });
        thread::sleep(Duration::from_millis(200));
        assert!(house.terminate().success());
        let answer = slow.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{module:?}: {answer}");
        house.start();
        let seen = house.call("GET", "/v1/users/me").by(&token).send().await;
        assert_eq!(seen.data()["displayName"], format!("Slow at {module:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_while_the_end_comes_is_in_the_log_afterwards() {
    let mut house = House::up();
    let (bob, root) = (house.token("bob"), house.token("root"));
    for number in 0..5 {
        let call =
            house.call("GET", "/v1/admin/users").by(&bob).header("x-request-id", &format!("late-{number}"));
        call.send().await.refused(403, "AUTH_INSUFFICIENT");
    }
    assert!(house.terminate().success());
    house.start();
    for number in 0..5 {
        let rows = super::audited(&house, &root, "access.refused", &format!("late-{number}")).await;
        assert_eq!(rows.len(), 1, "late-{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_json_meets_the_doors_of_its_module_first() {
    let house = House::up();
    let (bob, root) = (house.token("bob"), house.token("root"));
    for module in [Module::Gateway, Module::Admin] {
        let request_id = format!("malformed-{module:?}");
        let call =
            house.call_at(module, "GET", "/v1/admin/users?unknown=1").header("x-request-id", &request_id);
        call.by(&bob).send().await.refused(403, "AUTH_INSUFFICIENT");
        assert_eq!(super::audited(&house, &root, "access.refused", &request_id).await.len(), 1);
        let answer = house.call_at(module, "GET", "/v1/admin/users?unknown=1").by(&root).send().await;
        answer.refused(400, "VALIDATION_FAILED");
        assert_eq!(answer.wrong_fields(), ["unknown"]);
    }
}
