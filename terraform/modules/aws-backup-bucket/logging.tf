locals {
  log_bucket  = var.access_log_bucket == null ? "${var.bucket_name}-access-logs" : var.access_log_bucket
  log_prefix  = "${var.bucket_name}/"
  log_arn     = "arn:${local.partition}:s3:::${local.log_bucket}"
  makes_a_log = var.access_log_bucket == null ? 1 : 0
}

resource "aws_s3_bucket_logging" "backups" {
  # The target's policy must let S3 write before S3 accepts the target.
  depends_on    = [aws_s3_bucket_policy.access_logs]
  bucket        = aws_s3_bucket.backups.id
  target_bucket = local.makes_a_log == 1 ? aws_s3_bucket.access_logs[0].id : local.log_bucket
  target_prefix = local.log_prefix
}

resource "aws_s3_bucket" "access_logs" {
  #checkov:skip=CKV_AWS_18:This bucket takes the access logs; if it logged into itself, the logs would never end
  #checkov:skip=CKV_AWS_145:S3 writes access logs into buckets encrypted by SSE-S3
  #checkov:skip=CKV_AWS_144:Access logs are useful only beside their bucket
  #checkov:skip=CKV2_AWS_62:Nothing waits for access logs
  count         = local.makes_a_log
  bucket        = local.log_bucket
  force_destroy = false
  tags          = var.tags
}

resource "aws_s3_bucket_versioning" "access_logs" {
  count  = local.makes_a_log
  bucket = aws_s3_bucket.access_logs[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "access_logs" {
  count                   = local.makes_a_log
  bucket                  = aws_s3_bucket.access_logs[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "access_logs" {
  count  = local.makes_a_log
  bucket = aws_s3_bucket.access_logs[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "access_logs" {
  count  = local.makes_a_log
  bucket = aws_s3_bucket.access_logs[0].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_policy" "access_logs" {
  count      = local.makes_a_log
  depends_on = [aws_s3_bucket_public_access_block.access_logs]
  bucket     = aws_s3_bucket.access_logs[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "S3WritesAccessLogs"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = ["s3:PutObject"]
        Resource  = "${local.log_arn}/${local.log_prefix}*"
        Condition = {
          ArnLike      = { "aws:SourceArn" = local.bucket_arn }
          StringEquals = { "aws:SourceAccount" = local.account }
        }
      },
      {
        Sid       = "DenyWithoutTLS"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = [local.log_arn, "${local.log_arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_s3_bucket_lifecycle_configuration" "access_logs" {
  count      = local.makes_a_log
  depends_on = [aws_s3_bucket_versioning.access_logs]
  bucket     = aws_s3_bucket.access_logs[0].id

  rule {
    id     = "old-logs-go-away"
    status = "Enabled"

    filter {}

    expiration {
      days = var.access_log_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}
