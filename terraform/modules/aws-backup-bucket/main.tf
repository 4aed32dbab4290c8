data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account    = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  bucket_arn = "arn:${local.partition}:s3:::${var.bucket_name}"

  # Ask if the object is null, not if its ARN is null. If the same configuration makes the key, the ARN isn't known when Terraform plans.
  kms_key_arn = var.kms_key == null ? one(aws_kms_key.backups[*].arn) : var.kms_key.arn
}

resource "aws_s3_bucket" "backups" {
  #checkov:skip=CKV2_AWS_62:pgstow needs no events of the bucket
  #checkov:skip=CKV_AWS_144:Optional, by var.replication
  bucket              = var.bucket_name
  object_lock_enabled = var.object_lock != null
  force_destroy       = false
  tags                = var.tags
}

resource "aws_s3_bucket_versioning" "backups" {
  bucket = aws_s3_bucket.backups.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "backups" {
  count  = var.object_lock == null ? 0 : 1
  bucket = aws_s3_bucket_versioning.backups.bucket

  rule {
    default_retention {
      mode = var.object_lock.mode
      days = var.object_lock.days
    }
  }
}

resource "aws_s3_bucket_public_access_block" "backups" {
  bucket                  = aws_s3_bucket.backups.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "backups" {
  bucket = aws_s3_bucket.backups.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_kms_key" "backups" {
  count                   = var.kms_key == null ? 1 : 0
  description             = "Backups in ${var.bucket_name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = var.tags

  # IAM decides who may use the key, as it does for the bucket.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AccountDecidesByIAM"
      Effect    = "Allow"
      Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

resource "aws_kms_alias" "backups" {
  count         = var.kms_key == null ? 1 : 0
  name          = "alias/${var.bucket_name}"
  target_key_id = aws_kms_key.backups[0].key_id
}

# KMS can't rotate a key that signs. To change the key, trust both public keys for a while.
resource "aws_kms_key" "signing" {
  #checkov:skip=CKV_AWS_7:KMS can't rotate an asymmetric key
  for_each                 = var.signing_keys
  description              = "Signs as the ${each.key} of ${var.bucket_name}"
  customer_master_key_spec = "ECC_NIST_P256"
  key_usage                = "SIGN_VERIFY"
  deletion_window_in_days  = 30
  tags                     = var.tags

  # IAM decides who may sign.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AccountDecidesByIAM"
      Effect    = "Allow"
      Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

resource "aws_kms_alias" "signing" {
  for_each      = var.signing_keys
  name          = "alias/${var.bucket_name}-signing-${each.key}"
  target_key_id = aws_kms_key.signing[each.key].key_id
}

resource "aws_s3_bucket_server_side_encryption_configuration" "backups" {
  bucket = aws_s3_bucket.backups.id

  rule {
    # Without a bucket key, S3 gives KMS the ARN of each object. So the roles' rights to the key can be limited to prefixes, too. The price
    # is one request to KMS for each object.
    bucket_key_enabled = false

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = local.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_policy" "backups" {
  # Block public access first: otherwise S3 may refuse the policy.
  depends_on = [aws_s3_bucket_public_access_block.backups]
  bucket     = aws_s3_bucket.backups.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "DenyWithoutTLS"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "DenyOldTLS"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
      {
        Sid       = "DenyOtherEncryption"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/*"
        Condition = {
          # A put without the header gets the bucket's default encryption.
          Null            = { "s3:x-amz-server-side-encryption" = "false" }
          StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
        }
      },
      {
        Sid       = "DenyOtherKeys"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/*"
        Condition = {
          Null            = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
          StringNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = local.kms_key_arn }
        }
      },
    ]
  })
}

resource "aws_s3_bucket_lifecycle_configuration" "backups" {
  #checkov:skip=CKV_AWS_300:The last rule aborts failed uploads; checkov doesn't see it beside a dynamic rule
  depends_on = [aws_s3_bucket_versioning.backups]
  bucket     = aws_s3_bucket.backups.id

  dynamic "rule" {
    for_each = length(var.transitions) == 0 ? [] : [var.transitions]

    content {
      id     = "data-gets-colder"
      status = "Enabled"

      filter {
        prefix = "${var.prefix}/data/"
      }

      dynamic "transition" {
        for_each = rule.value

        content {
          days          = transition.value.days
          storage_class = transition.value.storage_class
        }
      }
    }
  }

  # Current versions never expire by age, since that would delete even the last good backup. pgstow prune decides what to delete.
  rule {
    id     = "deleted-goes-away"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

module "roles" {
  source = "../aws-backup-roles"

  bucket_name          = var.bucket_name
  prefix               = var.prefix
  region               = aws_s3_bucket.backups.region
  kms_key              = { arn = local.kms_key_arn }
  signing_keys         = { for role, key in aws_kms_key.signing : role => key.arn }
  permissions_boundary = var.permissions_boundary
  trusted_by           = var.trusted_by
  cluster              = var.cluster
  databases            = var.databases
  tags                 = var.tags
}

# An earlier version of this module made the roles itself.
moved {
  from = aws_iam_role.backups
  to   = module.roles.aws_iam_role.backups
}

moved {
  from = aws_iam_role_policy.backups
  to   = module.roles.aws_iam_role_policy.backups
}

moved {
  from = aws_iam_instance_profile.backups
  to   = module.roles.aws_iam_instance_profile.backups
}
