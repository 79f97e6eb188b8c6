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

/// Where the entries of a page begin and end.
fn entries(page: &str) -> Vec<(usize, usize)> {
    let starts = page.match_indices("<Contents>").map(|(at, _)| at);
    let ends = page.match_indices("</Contents>").map(|(at, end)| at + end.len());
    starts.zip(ends).collect()
}

/// A page whose first two entries have changed places.
pub(super) fn swapped(page: &str) -> String {
    let [(a, b), (c, d), ..] = entries(page)[..] else {
        return page.to_string();
    };
    [&page[..a], &page[c..d], &page[b..c], &page[a..b], &page[d..]].concat()
}

/// A page whose last entry comes twice.
pub(super) fn doubled(page: &str) -> String {
    let Some(&(start, end)) = entries(page).last() else {
        return page.to_string();
    };
    [&page[..end], &page[start..]].concat()
}

/// A page without its later half, which says that there is no more.
pub(super) fn cut(page: &str) -> String {
    let (entries, whole) = (entries(page), with_token(page, None));
    let (Some(&(start, _)), Some(&(_, end))) = (entries.get(entries.len() / 2), entries.last()) else {
        return page.to_string();
    };
    let missing = &page[start..end];
    whole
        .replacen(missing, "", 1)
        .replace("<IsTruncated>true", "<IsTruncated>false")
}
