//! Each failure has containerd's code: clients decide by it.

use tonic::Code;

use crate::harness::{code, server};

#[tokio::test]
async fn each_failure_has_containerds_code() {
    let mut s = server().await;
    let c = &mut s.client;
    c.prepare("p", "").await.unwrap();
    c.commit("base", "p").await.unwrap();
    c.prepare("active", "base").await.unwrap();
    c.view("view", "base").await.unwrap();

    use Code::*;
    assert_eq!(code(c.stat("nobody").await), NotFound);
    assert_eq!(code(c.stat("").await), NotFound);
    assert_eq!(code(c.mounts("nobody").await), NotFound);
    assert_eq!(code(c.usage("nobody").await), NotFound);
    assert_eq!(code(c.remove("nobody").await), NotFound);
    assert_eq!(code(c.remove("").await), NotFound);
    assert_eq!(code(c.update("nobody", &[], None).await), NotFound);
    assert_eq!(code(c.update("", &[], None).await), NotFound);
    assert_eq!(code(c.commit("n", "nobody").await), NotFound);
    assert_eq!(code(c.prepare("n", "nobody").await), NotFound);
    assert_eq!(code(c.view("n", "nobody").await), NotFound);

    for taken in ["active", "view", "base"] {
        assert_eq!(code(c.prepare(taken, "base").await), AlreadyExists);
        assert_eq!(code(c.view(taken, "base").await), AlreadyExists);
        assert_eq!(code(c.commit(taken, "active").await), AlreadyExists);
    }
    for parent in ["active", "view"] {
        assert_eq!(code(c.prepare("n", parent).await), InvalidArgument);
        assert_eq!(code(c.view("n", parent).await), InvalidArgument);
    }
    for field in ["name", "kind", "parent", "created_at", "bogus"] {
        let answer = c.update("base", &[], Some(&[field])).await;
        assert_eq!(code(answer), InvalidArgument, "{field}");
    }
    assert_eq!(code(c.prepare("", "").await), InvalidArgument);
    assert_eq!(code(c.commit("", "active").await), InvalidArgument);
    assert_eq!(code(c.list(&["name="]).await), InvalidArgument);

    assert_eq!(code(c.mounts("base").await), FailedPrecondition);
    assert_eq!(code(c.commit("n", "view").await), FailedPrecondition);
    assert_eq!(code(c.commit("n", "base").await), FailedPrecondition);
    assert_eq!(code(c.remove("base").await), FailedPrecondition);

    // After all that, everything is as it was.
    assert_eq!(c.list(&[]).await.unwrap().len(), 3);
    assert_eq!(code(c.mounts("active").await), Ok);
}

#[tokio::test]
async fn a_parent_given_at_commit_is_taken_where_there_is_none() {
    let mut s = server().await;
    let c = &mut s.client;
    c.prepare("p", "").await.unwrap();
    c.commit("base", "p").await.unwrap();
    c.prepare("q", "base").await.unwrap();
    c.commit("other", "q").await.unwrap();
    c.prepare("k", "base").await.unwrap();
    let answer = c.commit_with("n", "k", "other", &[]).await;
    assert_eq!(code(answer), Code::InvalidArgument);
    c.commit_with("n", "k", "base", &[]).await.unwrap();

    c.prepare("lone", "").await.unwrap();
    c.prepare("l", "").await.unwrap();
    assert_eq!(
        code(c.commit_with("m", "l", "nobody", &[]).await),
        Code::NotFound
    );
    let answer = c.commit_with("m", "l", "lone", &[]).await;
    assert_eq!(code(answer), Code::InvalidArgument);
    c.commit_with("m", "l", "other", &[]).await.unwrap();
    assert_eq!(c.stat("m").await.unwrap().parent, "other");
    assert_eq!(code(c.remove("other").await), Code::FailedPrecondition);
}
