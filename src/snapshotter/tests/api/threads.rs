//! Calls at once from many clients.

use tonic::Code;

use crate::harness::{Client, code, names, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_prepare_one_key_one_gets_it() {
    let s = server().await;
    let calls = (0..32).map(|_| {
        let mut client = s.client.clone();
        tokio::spawn(async move { code(client.prepare("key", "").await) })
    });
    let mut codes = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        codes.push(call.await.unwrap());
    }
    assert_eq!(codes.iter().filter(|c| **c == Code::Ok).count(), 1);
    assert!(
        codes
            .iter()
            .all(|c| matches!(c, Code::Ok | Code::AlreadyExists))
    );
    assert_eq!(names(&s.root.join("snapshots")).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chains_grow_and_go_beside_one_another() {
    let s = server().await;
    let mut clients = Vec::new();
    for number in 0..8 {
        let socket = s.socket.clone();
        clients.push(tokio::spawn(async move {
            let mut client = Client::connect(&socket).await;
            let mut parent = String::new();
            let mut made = Vec::new();
            for depth in 0..10 {
                let name = format!("{number}/{depth}");
                client.prepare("shared", "").await.ok();
                client
                    .prepare(&format!("k{number}"), &parent)
                    .await
                    .unwrap();
                client.commit(&name, &format!("k{number}")).await.unwrap();
                client.list(&["kind==committed"]).await.unwrap();
                client.remove("shared").await.ok();
                made.push(name.clone());
                parent = name;
            }
            for name in made.iter().rev() {
                client.remove(name).await.unwrap();
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let mut client = s.client.clone();
    client.remove("shared").await.ok();
    client.cleanup().await.unwrap();
    assert!(client.list(&[]).await.unwrap().is_empty());
    assert!(names(&s.root.join("snapshots")).is_empty());
    assert!(names(&s.root.join("removed")).is_empty());
}
