//! The kinds of things that go wrong on the wire.

/// What goes wrong on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// 503 SlowDown before any effect, with or without `Retry-After` in seconds.
    SlowDown(Option<u64>),
    /// 429 before any effect.
    TooMany,
    /// 500 before any effect.
    ErrorBefore,
    /// 500 after the effect.
    ErrorAfter,
    /// 403 ExpiredToken.
    Expired,
    /// 403 RequestTimeTooSkewed.
    Skewed,
    /// 403 AccessDenied.
    Forbidden,
    /// 404 for a key that is there.
    Missing,
    /// 404 NoSuchUpload.
    UploadGone,
    /// 409 before any effect.
    Conflict,
    /// 412 before any effect.
    Precondition,
    /// 304 that nobody asked for.
    NotModified,
    /// 400 AuthorizationHeaderMalformed with another region in a header.
    OtherRegion,
    /// 307 to this place.
    Redirect(String),
    /// Reset before the request is passed on.
    ResetBefore,
    /// Reset after the effect: the answer is lost.
    ResetAfter,
    /// The body is reset behind this many bytes.
    ResetAt(usize),
    /// The connection ends in the middle of the body, in good order.
    Truncated,
    /// The head promises fewer bytes than the body has.
    ShortLength,
    /// The right length, other bytes.
    OtherBytes,
    /// The whole object for a range.
    RangeIgnored,
    /// Another part than asked for, and says so.
    OtherRange,
    /// Another tag in the head.
    OtherTag,
    /// One byte at a time.
    Trickle,
    /// A success whose body is an error.
    LateError,
    /// The page that was served before comes again.
    PageAgain,
    /// The next page is this one.
    TokenLoop,
    /// There is more, but not where.
    TokenMissing,
    /// The entries of the page are in another order.
    Unsorted,
    /// A document that grows when it is read.
    EntityBomb,
    /// A document without an end in sight.
    Huge,
    /// A key that is not UTF-8.
    BadUtf8,
    /// No answer and no effect; the connection stays open.
    SilentBefore,
    /// No answer after the effect; the connection stays open.
    SilentAfter,
    /// "100 Continue", and then nothing.
    ContinueOnly,
    /// Half of the body, and then nothing; the connection stays open.
    StopsInBody,
    /// What stood there before, with its own head.
    Stale,
    /// The later half of a page is missing, and it says that there is no more.
    PageCut,
    /// An entry of the page comes twice.
    Doubled,
    /// More bytes behind the length that was promised.
    ExtraBytes,
    /// No tag in the head.
    NoTag,
    /// Checksums of other bytes in the head.
    OtherChecksum,
    /// HEAD tells another size than GET.
    OtherSize,
    /// One byte to a chunk, and no length.
    Chunked,
    /// Success without any effect: a part, a removal, an upload given up.
    AckedOnly,
    /// Success, and the effect comes when [`super::FaultProxy::late_ones_arrive`] says so.
    AckedLate,
    /// 400 InvalidPartOrder before any effect.
    PartOrder,
    /// Passed on only behind so many answers to others.
    HeldBack(u64),
    /// Passed on twice; the second answer is what comes.
    Twice,
    /// Before it is passed on somebody else does what [`super::FaultProxy::meanwhile`] was given.
    Meanwhile,
    /// 404 NoSuchBucket.
    BucketGone,
    /// 403 QuotaExceeded.
    QuotaExceeded,
    /// The answer to the request before, after the effect.
    OthersAnswer,
    /// After the answer every connection that waits for its next request is reset.
    PoolDead,
}

impl Wire {
    pub(super) fn before_effect(&self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::SlowDown(_) => (503, "SlowDown"),
            Self::TooMany => (429, "TooManyRequests"),
            Self::ErrorBefore => (500, "InternalError"),
            Self::Expired => (403, "ExpiredToken"),
            Self::Skewed => (403, "RequestTimeTooSkewed"),
            Self::Forbidden => (403, "AccessDenied"),
            Self::Missing => (404, "NoSuchKey"),
            Self::UploadGone => (404, "NoSuchUpload"),
            Self::Conflict => (409, "ConditionalRequestConflict"),
            Self::Precondition => (412, "PreconditionFailed"),
            Self::NotModified => (304, ""),
            Self::OtherRegion => (400, "AuthorizationHeaderMalformed"),
            Self::Redirect(_) => (307, "TemporaryRedirect"),
            Self::PartOrder => (400, "InvalidPartOrder"),
            Self::BucketGone => (404, "NoSuchBucket"),
            Self::QuotaExceeded => (403, "QuotaExceeded"),
            _ => return None,
        })
    }
}
