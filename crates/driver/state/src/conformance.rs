//! What every backend of the port must do. A backend runs it with [`conformance_suite!`](crate::conformance_suite).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a suite of tests fails by panicking")]

use serde_json::json;
use skerry_model::Json;

use crate::{Change, Expect, Filter, Key, Kind, Page, Revision, StateError, StateStore};

/// Makes one test of each case. `$make` is called without arguments and answers with something that dereferences to the store.
#[macro_export]
macro_rules! conformance_suite {
    ($make:expr) => {
        $crate::conformance_suite!(@cases $make;
            a_record_is_read_back_with_its_revision,
            an_expectation_that_does_not_hold_changes_nothing,
            a_commit_is_all_or_nothing,
            malformed_commits_are_refused,
            pages_follow_the_order_of_ids,
            filters_select_by_prefix_and_member,
            changes_are_told_once_in_order,
            writers_at_the_same_time_do_not_lose_updates,
            strange_texts_are_kept,
        );
    };
    (@cases $make:expr; $($case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let make = $make;
                let held = make();
                $crate::conformance::$case(&*held).await;
            }
        )*
    };
}

const A: Kind = Kind::new("a");
const B: Kind = Kind::new("b");

fn key(id: &str) -> Key {
    Key::new(A, id)
}

fn put(id: &str, value: Json) -> Change {
    Change::put(key(id), Expect::Any, value)
}

async fn value(store: &impl StateStore, id: &str) -> Option<Json> {
    store.get(&key(id)).await.expect("reads").map(|record| record.value)
}

#[doc(hidden)]
pub async fn a_record_is_read_back_with_its_revision(store: &impl StateStore) {
    assert_eq!(store.get(&key("x")).await, Ok(None));
    let revision = store.commit(vec![put("x", json!({"z": 1, "a": [null, 4503599627370495i64]}))]).await.unwrap();
    let record = store.get(&key("x")).await.unwrap().unwrap();
    assert_eq!((record.key, record.revision), (key("x"), revision));
    assert_eq!(record.value.to_string(), "{\"z\":1,\"a\":[null,4503599627370495]}");
    assert_eq!(store.get(&Key::new(B, "x")).await, Ok(None), "kinds do not mix");
    assert_eq!(store.commit(Vec::new()).await, Ok(revision));
    let later = store.commit(vec![put("x", json!(2))]).await.unwrap();
    assert!(later > revision);
    store.commit(vec![Change::delete(key("x"), Expect::Revision(later))]).await.unwrap();
    assert_eq!(store.get(&key("x")).await, Ok(None));
}

#[doc(hidden)]
pub async fn an_expectation_that_does_not_hold_changes_nothing(store: &impl StateStore) {
    let first = store.commit(vec![Change::put(key("x"), Expect::Absent, json!(1))]).await.unwrap();
    let again = store.commit(vec![Change::put(key("x"), Expect::Absent, json!(2))]).await;
    assert_eq!(again, Err(StateError::Conflict { key: key("x"), found: Some(first) }));
    let second = store.commit(vec![Change::put(key("x"), Expect::Revision(first), json!(3))]).await.unwrap();
    let stale = store.commit(vec![Change::delete(key("x"), Expect::Revision(first))]).await;
    assert_eq!(stale, Err(StateError::Conflict { key: key("x"), found: Some(second) }));
    assert_eq!(value(store, "x").await, Some(json!(3)));
    store.commit(vec![Change::delete(key("x"), Expect::Any)]).await.unwrap();
    let gone = store.commit(vec![Change::put(key("x"), Expect::Revision(second), json!(4))]).await;
    assert_eq!(gone, Err(StateError::Conflict { key: key("x"), found: None }));
    let deleted_before = store.commit(vec![Change::delete(key("x"), Expect::Any)]).await.unwrap();
    assert_eq!(store.commit(Vec::new()).await, Ok(deleted_before), "deleting nothing takes no revision");
    store.commit(vec![Change::put(key("x"), Expect::Absent, json!(5))]).await.unwrap();
    assert_eq!(value(store, "x").await, Some(json!(5)));
}

#[doc(hidden)]
pub async fn a_commit_is_all_or_nothing(store: &impl StateStore) {
    store.commit(vec![put("b", json!(0))]).await.unwrap();
    let before = store.commit(Vec::new()).await.unwrap();
    let changes = vec![put("a", json!(1)), Change::put(key("b"), Expect::Absent, json!(1)), put("c", json!(1))];
    assert!(matches!(store.commit(changes).await, Err(StateError::Conflict { key: k, .. }) if k == key("b")));
    assert_eq!((value(store, "a").await, value(store, "c").await), (None, None));
    assert_eq!(store.commit(Vec::new()).await, Ok(before), "a refused commit takes no revision");
    let changes = vec![put("a", json!(2)), Change::delete(key("b"), Expect::Any), put("c", json!(2))];
    assert_eq!(store.commit(changes).await, Ok(Revision(before.0 + 3)));
    assert_eq!(
        (value(store, "a").await, value(store, "b").await, value(store, "c").await),
        (Some(json!(2)), None, Some(json!(2)))
    );
}

#[doc(hidden)]
pub async fn malformed_commits_are_refused(store: &impl StateStore) {
    let twice = store.commit(vec![put("a", json!(1)), put("a", json!(2))]).await;
    assert!(matches!(twice, Err(StateError::Invalid { .. })));
    let large = store.commit(vec![put("a", json!("x".repeat(1024 * 1024)))]).await;
    assert!(matches!(large, Err(StateError::Invalid { .. })));
    let many = (0..1_001).map(|n| put(&n.to_string(), json!(n))).collect();
    assert!(matches!(store.commit(many).await, Err(StateError::Invalid { .. })));
    assert_eq!(value(store, "a").await, None);
}

#[doc(hidden)]
pub async fn pages_follow_the_order_of_ids(store: &impl StateStore) {
    let ids = ["Z", "a", "a-", "a/1", "aa", "b"];
    for id in ids.iter().rev() {
        store.commit(vec![put(id, json!(id))]).await.unwrap();
    }
    store.commit(vec![Change::put(Key::new(B, "a0"), Expect::Any, json!(0))]).await.unwrap();
    store.commit(vec![Change::delete(key("aa"), Expect::Any)]).await.unwrap();
    let mut seen = Vec::new();
    let mut page = Page::first(2);
    loop {
        let found = store.find(&A, &Filter::all(), page.clone()).await.unwrap();
        assert!(found.records.len() <= 2);
        seen.extend(found.records.into_iter().map(|record| record.key.id));
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ["Z", "a", "a-", "a/1", "b"]);
    let whole = store.find(&A, &Filter::all(), Page::first(5)).await.unwrap();
    assert_eq!((whole.records.len(), whole.next), (5, None), "no further page is promised when there is none");
}

#[doc(hidden)]
pub async fn filters_select_by_prefix_and_member(store: &impl StateStore) {
    for (id, value) in [
        ("d/1", json!({"parent": "p"})),
        ("d/2", json!({"parent": "q"})),
        ("d/3", json!({"parent": 7})),
        ("d0", json!({"parent": "p"})),
        ("c", json!({"x": {"parent": "p"}})),
    ] {
        store.commit(vec![put(id, value)]).await.unwrap();
    }
    let ids = async |filter: Filter, page: Page| {
        let found = store.find(&A, &filter, page).await.unwrap();
        found.records.into_iter().map(|record| record.key.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Filter::id_prefix("d/"), Page::first(10)).await, ["d/1", "d/2", "d/3"]);
    assert_eq!(ids(Filter::member("parent", "p"), Page::first(10)).await, ["d/1", "d0"]);
    assert_eq!(ids(Filter::member("parent", "7"), Page::first(10)).await, Vec::<String>::new());
    let both = Filter { id_prefix: Some("d/".to_owned()), ..Filter::member("parent", "p") };
    assert_eq!(ids(both, Page::first(10)).await, ["d/1"]);
    let after = |id: &str| Page { after: Some(id.to_owned()), records_max: 10 };
    assert_eq!(ids(Filter::id_prefix("d/"), after("d/1")).await, ["d/2", "d/3"]);
    assert_eq!(ids(Filter::id_prefix("d/"), after("a")).await, ["d/1", "d/2", "d/3"]);
    let first = store.find(&A, &Filter::member("parent", "p"), Page::first(1)).await.unwrap();
    assert_eq!(first.next.as_deref(), Some("d/1"));
}

#[doc(hidden)]
pub async fn changes_are_told_once_in_order(store: &impl StateStore) {
    let start = store.commit(Vec::new()).await.unwrap();
    store.commit(vec![put("a", json!(1)), put("b", json!(1)), put("c", json!(1))]).await.unwrap();
    store.commit(vec![put("a", json!(2))]).await.unwrap();
    store.commit(vec![Change::delete(key("b"), Expect::Any)]).await.unwrap();
    let told = async |since: Revision, max: u32| {
        let changes = store.changes_since(since, max).await.unwrap();
        let ids: Vec<_> = changes.notices.into_iter().map(|notice| (notice.key.id, notice.deleted)).collect();
        (ids, changes.up_to)
    };
    let entry = |id: &str, deleted| (id.to_owned(), deleted);
    let (first, middle) = told(start, 2).await;
    assert_eq!(first, [entry("c", false), entry("a", false)]);
    let (rest, end) = told(middle, 10).await;
    assert_eq!(rest, [entry("b", true)]);
    assert_eq!(told(end, 10).await, (Vec::new(), end));
    store.commit(vec![put("b", json!(2))]).await.unwrap();
    assert_eq!(told(end, 10).await.0, [entry("b", false)]);
}

#[doc(hidden)]
pub async fn writers_at_the_same_time_do_not_lose_updates(store: &impl StateStore) {
    store.commit(vec![put("n", json!(0))]).await.unwrap();
    let add = async || {
        for _ in 0..20 {
            loop {
                let record = store.get(&key("n")).await.unwrap().unwrap();
                let next = json!(record.value.as_i64().unwrap() + 1);
                let change = Change::put(key("n"), Expect::Revision(record.revision), next);
                match store.commit(vec![change]).await {
                    Ok(_) => break,
                    Err(StateError::Conflict { .. }) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    tokio::join!(add(), add(), add());
    assert_eq!(value(store, "n").await, Some(json!(60)));
}

#[doc(hidden)]
pub async fn strange_texts_are_kept(store: &impl StateStore) {
    for id in ["", "it's", "a\"b", "ä€\u{10ffff}", "%_", "nul\u{0}l"] {
        let document = json!({ "text": id, id: id });
        store.commit(vec![put(id, document.clone())]).await.unwrap();
        assert_eq!(value(store, id).await, Some(document), "{id:?}");
        let found = store
            .find(&A, &Filter { id_prefix: Some(id.to_owned()), ..Filter::member("text", id) }, Page::first(10))
            .await;
        assert_eq!(found.unwrap().records.len(), 1, "{id:?}");
    }
}
