use super::*;

#[test]
fn links_are_read_in_any_order_and_spelling() {
    assert_eq!(next_link("</a>; rel=\"next\""), Some("/a"));
    assert_eq!(
        next_link("</a?n=1,2>; title=\"x\"; REL=next"),
        Some("/a?n=1,2")
    );
    assert_eq!(
        next_link("</a>; rel=\"prev\", </b>; rel=\"last next\""),
        Some("/b")
    );
    assert_eq!(next_link("</a>; rel=\"prev\""), None);
    assert_eq!(next_link("</a"), None);
    assert_eq!(next_link(""), None);
}
