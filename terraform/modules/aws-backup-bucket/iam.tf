locals {
  # What each role may do. Every statement names its objects by prefix; listing is a right to the bucket, held to prefixes by its condition.
  statements = {
    writer = [
      {
        Sid       = "CreateBackups"
        Effect    = "Allow"
        Action    = "s3:PutObject"
        Resource  = ["${local.bucket_arn}/${local.data}*", "${local.bucket_arn}/${local.manifests}*"]
        Condition = local.create_only
      },
      {
        Sid      = "ReadManifests"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "${local.bucket_arn}/${local.manifests}*"
      },
      {
        Sid       = "ListManifests"
        Effect    = "Allow"
        Action    = "s3:ListBucket"
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = ["${local.manifests}*"] } }
      },
      {
        Sid       = "Encrypt"
        Effect    = "Allow"
        Action    = "kms:GenerateDataKey"
        Resource  = aws_kms_key.backups.arn
        Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.bucket_arn}/${local.data}*", "${local.bucket_arn}/${local.manifests}*"] } }
      },
      {
        Sid       = "DecryptManifests"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = aws_kms_key.backups.arn
        Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.bucket_arn}/${local.manifests}*"] } }
      },
    ]

    restorer = [
      {
        Sid      = "ReadBackups"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = "${local.bucket_arn}/${var.prefix}/*"
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
        Resource  = "${local.bucket_arn}/${local.attestations}*"
        Condition = local.create_only
      },
      {
        Sid       = "Decrypt"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = aws_kms_key.backups.arn
        Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.bucket_arn}/${var.prefix}/*"] } }
      },
      {
        Sid       = "EncryptAttestations"
        Effect    = "Allow"
        Action    = "kms:GenerateDataKey"
        Resource  = aws_kms_key.backups.arn
        Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.bucket_arn}/${local.attestations}*"] } }
      },
    ]

    # S3 shows an object's checksum only to those who may read it. What the auditor sees in its place is the listing of versions: a manifest
    # names the version of each object that S3 confirmed by SHA-256, and the bytes of a version never change.
    auditor = concat(local.read_records, [
      local.read_manifest_locks,
      {
        Sid       = "ListVersions"
        Effect    = "Allow"
        Action    = ["s3:ListBucket", "s3:ListBucketVersions"]
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = ["${var.prefix}/*"] } }
      },
    ])

    # Locked versions are refused by S3 itself, as long as nobody gives this role s3:BypassGovernanceRetention.
    pruner = concat(local.read_records, [
      {
        Sid       = "ListVersions"
        Effect    = "Allow"
        Action    = ["s3:ListBucket", "s3:ListBucketVersions"]
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = ["${var.prefix}/*"] } }
      },
      {
        Sid      = "ReadLocks"
        Effect   = "Allow"
        Action   = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
        Resource = "${local.bucket_arn}/${var.prefix}/*"
      },
      {
        Sid      = "ReadDefaultLock"
        Effect   = "Allow"
        Action   = ["s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning"]
        Resource = local.bucket_arn
      },
      {
        Sid      = "DeleteBackups"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
        Resource = "${local.bucket_arn}/${var.prefix}/*"
      },
    ])
  }

  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
  create_only = { Null = { "s3:if-none-match" = "false" } }

  # Without these rights, S3 answers as if nothing were locked or held. They give no access to content.
  read_manifest_locks = {
    Sid      = "ReadLocksOfManifests"
    Effect   = "Allow"
    Action   = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    Resource = "${local.bucket_arn}/${local.manifests}*"
  }

  read_records = [
    {
      Sid      = "ReadManifestsAndAttestations"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = ["${local.bucket_arn}/${local.manifests}*", "${local.bucket_arn}/${local.attestations}*"]
    },
    {
      Sid       = "DecryptManifestsAndAttestations"
      Effect    = "Allow"
      Action    = "kms:Decrypt"
      Resource  = aws_kms_key.backups.arn
      Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.bucket_arn}/${local.manifests}*", "${local.bucket_arn}/${local.attestations}*"] } }
    },
  ]

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
  for_each           = var.trusted_by
  name               = "${var.bucket_name}-${each.key}"
  description        = "pgstow's ${each.key} of ${var.bucket_name}/${var.prefix}"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = local.trust[each.key] })
  tags               = var.tags
}

resource "aws_iam_role_policy" "backups" {
  for_each = var.trusted_by
  name     = "pgstow-${each.key}"
  role     = aws_iam_role.backups[each.key].id
  policy   = jsonencode({ Version = "2012-10-17", Statement = local.statements[each.key] })
}

resource "aws_iam_instance_profile" "backups" {
  for_each = toset([for role, by in var.trusted_by : role if by.ec2])
  name     = aws_iam_role.backups[each.key].name
  role     = aws_iam_role.backups[each.key].name
  tags     = var.tags
}
