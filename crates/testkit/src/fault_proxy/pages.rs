//! Pages of listings, changed.

/// A page that says that there is more.
pub(super) fn with_token(page: &str, token: Option<&str>) -> String {
    let page = page.replace("<IsTruncated>false", "<IsTruncated>true");
    let mut page = match (
        page.find("<NextContinuationToken>"),
        page.find("</NextContinuationToken>"),
    ) {
        (Some(start), Some(end)) => format!(
            "{}{}",
            &page[..start],
            &page[end + "</NextContinuationToken>".len()..]
        ),
        _ => page,
    };
    if let (Some(token), Some(at)) = (token, page.rfind("</ListBucketResult>")) {
        page.insert_str(
            at,
            &format!("<NextContinuationToken>{token}</NextContinuationToken>"),
        );
    }
    page
}

/// A page whose first two entries have changed places.
pub(super) fn swapped(page: &str) -> String {
    let entry = |from: usize| {
        let start = from + page[from..].find("<Contents>")?;
        let end = start + page[start..].find("</Contents>")? + "</Contents>".len();
        Some((start, end))
    };
    let Some((a, b)) = entry(0) else {
        return page.to_string();
    };
    let Some((c, d)) = entry(b) else {
        return page.to_string();
    };
    format!(
        "{}{}{}{}{}",
        &page[..a],
        &page[c..d],
        &page[b..c],
        &page[a..b],
        &page[d..]
    )
}
