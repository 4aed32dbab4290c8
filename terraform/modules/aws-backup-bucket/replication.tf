locals {
  replicates = var.replication == null ? 0 : 1
}

resource "aws_s3_bucket_replication_configuration" "backups" {
  count  = local.replicates
  bucket = aws_s3_bucket_versioning.backups.bucket
  role   = aws_iam_role.replication[0].arn

  rule {
    id       = "everything"
    priority = 0
    status   = "Enabled"

    filter {}

    # A deletion here, by mistake or by a thief, deletes nothing in the copy.
    delete_marker_replication {
      status = "Disabled"
    }

    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
    }

    destination {
      bucket        = var.replication.bucket_arn
      storage_class = var.replication.storage_class

      encryption_configuration {
        replica_kms_key_id = var.replication.kms_key_arn
      }
    }
  }
}

resource "aws_iam_role" "replication" {
  count                = local.replicates
  name                 = "${var.bucket_name}-replication"
  description          = "S3 takes this role to copy ${var.bucket_name}"
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "replication" {
  count = local.replicates
  name  = "replication"
  role  = aws_iam_role.replication[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
        Resource = local.bucket_arn
      },
      {
        Effect = "Allow"
        Action = [
          "s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging", "s3:GetObjectRetention", "s3:GetObjectLegalHold",
        ]
        Resource = "${local.bucket_arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = ["s3:ReplicateObject", "s3:ReplicateTags"]
        Resource = "${var.replication.bucket_arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = "kms:Decrypt"
        Resource = local.kms_key_arn
      },
      {
        Effect   = "Allow"
        Action   = "kms:Encrypt"
        Resource = var.replication.kms_key_arn
      },
    ]
  })
}
