data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account    = data.aws_caller_identity.current.account_id
  bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket_name}"

  data         = "${local.bucket_arn}/${var.prefix}/data/*"
  manifests    = "${local.bucket_arn}/${var.prefix}/manifests/*"
  attestations = "${local.bucket_arn}/${var.prefix}/attestations/*"
  tombstones   = "${local.bucket_arn}/${var.prefix}/pruned/*"
  keys         = "${local.bucket_arn}/${var.prefix}/keys/*"
  everything   = "${local.bucket_arn}/${var.prefix}/*"

  # What each role may do. Every statement names its objects by prefix. Listing is a right on the bucket, so a condition limits it to prefixes.
  statements = {
    writer = [
      {
        Sid       = "CreateBackups"
        Effect    = "Allow"
        Action    = "s3:PutObject"
        Resource  = [local.data, local.manifests, local.keys]
        Condition = local.create_only
      },
      {
        Sid      = "ReadManifests"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = local.manifests
      },
      {
        Sid       = "ListManifests"
        Effect    = "Allow"
        Action    = "s3:ListBucket"
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = ["${var.prefix}/manifests/*"] } }
      },
    ]

    restorer = [
      {
        Sid      = "ReadBackups"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = local.everything
      },
      {
        Sid       = "ListBackups"
        Effect    = "Allow"
        Action    = "s3:ListBucket"
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = ["${var.prefix}/*"] } }
      },
      local.read_manifest_locks,
      {
        Sid       = "CreateAttestations"
        Effect    = "Allow"
        Action    = "s3:PutObject"
        Resource  = local.attestations
        Condition = local.create_only
      },
    ]

    # S3 shows an object's checksum only to roles that may read the object. Instead, the auditor may list versions. A manifest names the
    # version of each object that S3 confirmed by SHA-256, and the bytes of a version never change.
    auditor = [local.read_records, local.list_versions, local.read_locks, local.read_default_lock]

    # S3 itself refuses to delete locked versions, as long as nobody gives this role s3:BypassGovernanceRetention.
    pruner = [
      local.read_records,
      local.list_versions,
      local.read_locks,
      local.read_default_lock,
      {
        Sid      = "DeleteBackups"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
        Resource = [local.data, local.manifests, local.attestations, local.keys]
      },
      {
        Sid       = "CreateTombstones"
        Effect    = "Allow"
        Action    = "s3:PutObject"
        Resource  = local.tombstones
        Condition = local.create_only
      },
    ]
  }

  # What each role may do with the key, and for which objects.
  key_uses = {
    writer   = { "kms:GenerateDataKey" = [local.data, local.manifests, local.keys], "kms:Decrypt" = [local.manifests] }
    restorer = { "kms:GenerateDataKey" = [local.attestations], "kms:Decrypt" = [local.everything] }
    auditor  = { "kms:Decrypt" = [local.manifests, local.attestations, local.tombstones] }
    pruner   = { "kms:GenerateDataKey" = [local.tombstones], "kms:Decrypt" = [local.manifests, local.attestations, local.tombstones] }
  }

  key_statements = {
    for role, uses in local.key_uses : role => [
      for action, objects in uses : {
        Sid      = action == "kms:Decrypt" ? "Decrypt" : "Encrypt"
        Effect   = "Allow"
        Action   = action
        Resource = var.kms_key.arn
        # With a bucket key, S3 gives KMS the ARN of the bucket, not of the object.
        Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = var.kms_key.bucket_key ? [local.bucket_arn] : objects } }
      }
    ] if var.kms_key != null
  }

  signing_statements = {
    for role, arn in var.signing_keys : role => [{
      Sid      = "Sign"
      Effect   = "Allow"
      Action   = ["kms:GetPublicKey", "kms:Sign"]
      Resource = arn
    }]
  }

  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
  create_only = { Null = { "s3:if-none-match" = "false" } }

  # Without these rights, S3 answers as if nothing were locked or held. The rights give no access to content.
  read_manifest_locks = {
    Sid      = "ReadLocksOfManifests"
    Effect   = "Allow"
    Action   = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    Resource = local.manifests
  }

  read_locks = {
    Sid      = "ReadLocks"
    Effect   = "Allow"
    Action   = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    Resource = local.everything
  }

  read_default_lock = {
    Sid      = "ReadDefaultLock"
    Effect   = "Allow"
    Action   = ["s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning"]
    Resource = local.bucket_arn
  }

  list_versions = {
    Sid       = "ListVersions"
    Effect    = "Allow"
    Action    = ["s3:ListBucket", "s3:ListBucketVersions"]
    Resource  = local.bucket_arn
    Condition = { StringLike = { "s3:prefix" = ["${var.prefix}/*"] } }
  }

  read_records = {
    Sid      = "ReadRecords"
    Effect   = "Allow"
    Action   = "s3:GetObject"
    Resource = [local.manifests, local.attestations, local.tombstones]
  }

  # Who may take each role.
  trust = {
    for role, by in var.trusted_by : role => concat(
      [for service in compact([by.ec2 ? "ec2" : ""]) : {
        Sid       = "EC2"
        Effect    = "Allow"
        Principal = { Service = "ec2.amazonaws.com" }
        Action    = "sts:AssumeRole"
      }],
      [for service in compact([by.ecs ? "ecs-tasks" : ""]) : {
        Sid       = "ECS"
        Effect    = "Allow"
        Principal = { Service = "ecs-tasks.amazonaws.com" }
        Action    = "sts:AssumeRole"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      }],
      [for service in compact([by.pod_identity ? "pods" : ""]) : {
        Sid       = "PodIdentity"
        Effect    = "Allow"
        Principal = { Service = "pods.eks.amazonaws.com" }
        Action    = ["sts:AssumeRole", "sts:TagSession"]
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      }],
      [for github in by.github[*] : {
        Sid       = "GitHub"
        Effect    = "Allow"
        Principal = { Federated = github.provider_arn }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = { "${split("oidc-provider/", github.provider_arn)[1]}:aud" = "sts.amazonaws.com" }
          StringLike   = { "${split("oidc-provider/", github.provider_arn)[1]}:sub" = github.subjects }
        }
      }],
      [for irsa in by.irsa[*] : {
        Sid       = "IRSA"
        Effect    = "Allow"
        Principal = { Federated = irsa.provider_arn }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = {
            "${split("oidc-provider/", irsa.provider_arn)[1]}:aud" = "sts.amazonaws.com"
            "${split("oidc-provider/", irsa.provider_arn)[1]}:sub" = [for name in irsa.service_accounts : "system:serviceaccount:${name}"]
          }
        }
      }],
      [for principals in compact([join(",", by.principals)]) : {
        Sid       = "Principals"
        Effect    = "Allow"
        Principal = { AWS = by.principals }
        Action    = "sts:AssumeRole"
      }],
    )
  }
}

resource "aws_iam_role" "backups" {
  for_each             = var.trusted_by
  name                 = "${var.bucket_name}-${each.key}"
  description          = "pgstow's ${each.key} of ${var.bucket_name}/${var.prefix}"
  assume_role_policy   = jsonencode({ Version = "2012-10-17", Statement = local.trust[each.key] })
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "backups" {
  for_each = var.trusted_by
  name     = "pgstow-${each.key}"
  role     = aws_iam_role.backups[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.statements[each.key],
      lookup(local.key_statements, each.key, []),
      lookup(local.signing_statements, each.key, []),
    )
  })
}

resource "aws_iam_instance_profile" "backups" {
  for_each = toset([for role, by in var.trusted_by : role if by.ec2])
  name     = aws_iam_role.backups[each.key].name
  role     = aws_iam_role.backups[each.key].name
  tags     = var.tags
}
