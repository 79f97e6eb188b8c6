//! The requests that [`Double`] answers.

use super::*;

pub(super) fn coded(text: &str, encoding: Option<&EncodingType>) -> String {
    const SET: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'/');
    match encoding {
        Some(encoding) if encoding.as_str() == "url" => {
            percent_encoding::utf8_percent_encode(text, &SET).to_string()
        }
        _ => text.to_string(),
    }
}

pub(super) async fn collect(
    body: Option<StreamingBlob>,
    promised: Option<i64>,
    md5: Option<&str>,
) -> S3Result<(Bytes, [u8; 16])> {
    let mut all = BytesMut::new();
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            all.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
        }
    }
    if promised.is_some_and(|promised| promised != all.len() as i64) {
        return Err(s3_error!(IncompleteBody));
    }
    let found: [u8; 16] = Md5::digest(&all).into();
    let wanted = md5.map(|text| base64_of(&found) == text);
    if wanted == Some(false) {
        Err(s3_error!(BadDigest))
    } else {
        Ok((all.freeze(), found))
    }
}

pub(super) fn base64_of(bytes: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect::<Vec<u8>>();
    let six = |bits: &[u8]| {
        (0..6).fold(0, |six, at| {
            six << 1 | usize::from(bits.get(at).copied().unwrap_or(0))
        })
    };
    let text: String = bits
        .chunks(6)
        .map(|bits| char::from(ALPHABET[six(bits)]))
        .collect();
    text + "=="
}

#[async_trait::async_trait]
impl S3 for Double {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        if self.state().buckets.contains_key(&req.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        self.make_bucket(&req.input.bucket)
            .map_err(|_| s3_error!(InternalError))?;
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        let there = self.state().buckets.contains_key(&req.input.bucket);
        if there {
            Ok(S3Response::new(HeadBucketOutput::default()))
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let named = |name: &String| Bucket {
            name: Some(name.clone()),
            ..Bucket::default()
        };
        let buckets = Some(self.state().buckets.keys().map(named).collect());
        Ok(S3Response::new(ListBucketsOutput {
            buckets,
            ..ListBucketsOutput::default()
        }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        let (body, md5) = collect(input.body, input.content_length, input.content_md5.as_deref()).await?;
        let made = (body, hex(&md5), input.metadata.unwrap_or_default());
        let mut state = self.state();
        let (if_match, if_none) = (input.if_match.as_ref(), input.if_none_match.as_ref());
        let object = self.place(&mut state, (&input.bucket, &input.key), made, if_match, if_none)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(object.tag()),
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let object = self.find(&input.bucket, &input.key)?;
        if !passes(Some(&object), input.if_match.as_ref(), None) {
            return Err(s3_error!(PreconditionFailed));
        }
        if !passes(Some(&object), None, input.if_none_match.as_ref()) {
            return Err(s3_error!(NotModified));
        }
        let size = object.body.len() as u64;
        let mut output = GetObjectOutput {
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified()),
            metadata: Some(object.metadata.clone()),
            accept_ranges: Some("bytes".to_string()),
            ..GetObjectOutput::default()
        };
        let mut body = object.body;
        if let Some(range) = input.range {
            let part = range.check(size).map_err(|_| s3_error!(InvalidRange))?;
            output.content_range = Some(format!("bytes {}-{}/{size}", part.start, part.end - 1));
            body = body.slice(part.start as usize..part.end as usize);
        }
        output.content_length = Some(body.len() as i64);
        output.body = Some(StreamingBlob::from(s3s::Body::from(body)));
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.find(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.body.len() as i64),
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified()),
            metadata: Some(object.metadata),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let mut state = self.state();
        let objects = state
            .buckets
            .get_mut(&req.input.bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket))?;
        let now = objects.get(&req.input.key);
        if req.input.if_match.is_some() && now.is_none() {
            return Err(s3_error!(NoSuchKey));
        }
        if !passes(now, req.input.if_match.as_ref(), None) {
            return Err(s3_error!(PreconditionFailed));
        }
        self.forget(objects.remove(&req.input.key));
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut state = self.state();
        let objects = state
            .buckets
            .get_mut(&req.input.bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket))?;
        for named in req.input.delete.objects {
            self.forget(objects.remove(&named.key));
        }
        Ok(S3Response::new(DeleteObjectsOutput::default()))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        // The crate knows no conditions on the target of a copy; real services do by now.
        let condition = |name: &str| {
            let text = req.headers.get(name)?.to_str().ok()?.to_string();
            Some(match text.as_str() {
                "*" => ETagCondition::Any,
                tag => ETagCondition::ETag(ETag::Strong(tag.trim_matches('"').to_string())),
            })
        };
        let (if_match, if_none) = (condition("if-match"), condition("if-none-match"));
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let source = self.find(bucket, key)?;
        let (from_match, from_none) = (
            input.copy_source_if_match.as_ref(),
            input.copy_source_if_none_match.as_ref(),
        );
        if !passes(Some(&source), from_match, from_none) {
            return Err(s3_error!(PreconditionFailed));
        }
        let replaced = input
            .metadata_directive
            .is_some_and(|directive| directive.as_str() == "REPLACE");
        let metadata = if replaced {
            input.metadata.unwrap_or_default()
        } else {
            source.metadata
        };
        let etag = hex(&Md5::digest(&source.body));
        let mut state = self.state();
        let made = (source.body, etag, metadata);
        let at = (input.bucket.as_str(), input.key.as_str());
        let object = self.place(&mut state, at, made, if_match.as_ref(), if_none.as_ref())?;
        let result = CopyObjectResult {
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified()),
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        }))
    }

    /// The older form, which other programs still use: the marker is the last key of the page before.
    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let folders = req.input.delimiter.as_ref().is_some_and(|text| !text.is_empty());
        let page = self.list_objects_v2(req.map_input(Into::into)).await?.output;
        let marker = page.next_continuation_token.filter(|_| folders);
        Ok(S3Response::new(ListObjectsOutput {
            // Given with a delimiter alone; else the last key is the marker.
            next_marker: marker.map(|text| coded(&text, page.encoding_type.as_ref())),
            contents: page.contents,
            common_prefixes: page.common_prefixes,
            is_truncated: page.is_truncated,
            delimiter: page.delimiter,
            encoding_type: page.encoding_type,
            prefix: page.prefix,
            max_keys: page.max_keys,
            name: page.name,
            ..ListObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let encoding = input.encoding_type.as_ref();
        let state = self.state();
        let objects = state
            .buckets
            .get(&input.bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket))?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let max = input.max_keys.unwrap_or(1000).clamp(0, 1000) as usize;
        let mut from = match input.continuation_token.as_ref().or(input.start_after.as_ref()) {
            Some(after) if *after >= prefix => Bound::Excluded(after.clone()),
            _ => Bound::Included(prefix.clone()),
        };
        let (mut contents, mut folders, mut last, mut more) = (Vec::new(), Vec::new(), None, false);
        loop {
            let next = objects.range((from.clone(), Bound::Unbounded)).next();
            let Some((key, object)) = next.filter(|(key, _)| key.starts_with(&prefix)) else {
                break;
            };
            if contents.len() + folders.len() == max {
                more = max > 0;
                break;
            }
            let rest = &key[prefix.len()..];
            let delimiter = input.delimiter.as_ref().filter(|text| !text.is_empty());
            let folder = delimiter.and_then(|text| rest.find(text).map(|at| at + text.len()));
            if let Some(end) = folder {
                let folder = &key[..prefix.len() + end];
                folders.push(CommonPrefix {
                    prefix: Some(coded(folder, encoding)),
                });
                // Behind all that begins so: no key has a character above the last.
                last = Some(format!("{folder}\u{10ffff}"));
                from = Bound::Excluded(format!("{folder}\u{10ffff}"));
                continue;
            }
            contents.push(s3s::dto::Object {
                key: Some(coded(key, encoding)),
                e_tag: Some(object.tag()),
                size: Some(object.body.len() as i64),
                last_modified: Some(object.modified()),
                ..s3s::dto::Object::default()
            });
            last = Some(key.clone());
            from = Bound::Excluded(key.clone());
        }
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len() + folders.len()).ok(),
            contents: Some(contents),
            common_prefixes: Some(folders),
            is_truncated: Some(more),
            next_continuation_token: last.filter(|_| more),
            encoding_type: input.encoding_type.clone(),
            start_after: input.start_after.map(|after| coded(&after, encoding)),
            continuation_token: input.continuation_token,
            prefix: Some(coded(&prefix, encoding)),
            delimiter: input.delimiter,
            max_keys: input.max_keys,
            name: Some(input.bucket),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let mut state = self.state();
        if !state.buckets.contains_key(&input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        let id = format!("upload-{:08}", self.next.fetch_add(1, Ordering::Relaxed));
        let upload = Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            metadata: input.metadata.unwrap_or_default(),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), upload);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let (body, md5) = collect(input.body, input.content_length, input.content_md5.as_deref()).await?;
        let mut state = self.state();
        let upload = state
            .uploads
            .get_mut(&input.upload_id)
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(input.part_number, (hex(&md5), body));
        let e_tag = Some(ETag::Strong(hex(&md5)));
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            ..UploadPartOutput::default()
        }))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let state = self.state();
        let upload = state
            .uploads
            .get(&input.upload_id)
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        let after: i32 = input
            .part_number_marker
            .as_ref()
            .and_then(|text| text.to_string().parse().ok())
            .unwrap_or(0);
        let part = |(number, (etag, body)): (&i32, &(String, Bytes))| Part {
            part_number: Some(*number),
            e_tag: Some(ETag::Strong(etag.clone())),
            size: Some(body.len() as i64),
            ..Part::default()
        };
        let all = upload.parts.range(after + 1..).map(part);
        let max = input.max_parts.unwrap_or(1000).clamp(1, 1000) as usize;
        let parts: Vec<Part> = all.take(max).collect();
        let more = upload.parts.range(after + 1..).count() > parts.len();
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(parts),
            is_truncated: Some(more),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let mut state = self.state();
        let upload = state
            .uploads
            .remove(&input.upload_id)
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        let named = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let mut joined = || {
            let (mut body, mut sums) = (BytesMut::new(), Vec::new());
            for (at, part) in named.iter().enumerate() {
                let number = part.part_number.unwrap_or(0);
                let (etag, bytes) = upload.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
                let same = part.e_tag.as_ref().is_some_and(|tag| tag.value() == etag);
                if !same || (at > 0 && named[at - 1].part_number >= part.part_number) {
                    return Err(s3_error!(InvalidPart));
                }
                if at + 1 < named.len() && bytes.len() < 5 << 20 {
                    return Err(s3_error!(EntityTooSmall));
                }
                sums.extend_from_slice(&Md5::digest(bytes));
                body.extend_from_slice(bytes);
            }
            let etag = format!("{}-{}", hex(&Md5::digest(&sums)), named.len());
            let at = (upload.bucket.as_str(), upload.key.as_str());
            let made = (body.freeze(), etag, upload.metadata.clone());
            self.place(
                &mut state,
                at,
                made,
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
            )
        };
        match joined() {
            Ok(object) => Ok(S3Response::new(CompleteMultipartUploadOutput {
                bucket: Some(object.bucket.clone()),
                key: Some(object.key.clone()),
                e_tag: Some(object.tag()),
                ..CompleteMultipartUploadOutput::default()
            })),
            Err(error) => {
                state.uploads.insert(input.upload_id, upload);
                Err(error)
            }
        }
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        match self.state().uploads.remove(&req.input.upload_id) {
            Some(_) => Ok(S3Response::new(AbortMultipartUploadOutput::default())),
            None => Err(s3_error!(NoSuchUpload)),
        }
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        let encoding = input.encoding_type.as_ref();
        let prefix = input.prefix.clone().unwrap_or_default();
        let state = self.state();
        let mut uploads: Vec<(&String, &String)> = state
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(&prefix))
            .map(|(id, upload)| (&upload.key, id))
            .collect();
        uploads.sort();
        let shown = |(key, id): (&String, &String)| MultipartUpload {
            key: Some(coded(key, encoding)),
            upload_id: Some(id.clone()),
            ..MultipartUpload::default()
        };
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads.into_iter().map(shown).collect()),
            is_truncated: Some(false),
            encoding_type: input.encoding_type.clone(),
            prefix: Some(coded(&prefix, encoding)),
            bucket: Some(input.bucket),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}
