# Who may take which role, and which roles there are. What each may do is tried in tests/terraform.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made" }
  }
}

variables {
  bucket_name = "acme-backups"
  trusted_by  = { writer = { ec2 = true }, restorer = { ec2 = true }, auditor = { ec2 = true }, pruner = { ec2 = true } }
}

run "a_bucket_without_a_key" {
  assert {
    condition     = alltrue([for policy in values(aws_iam_role_policy.backups) : !strcontains(policy.policy, "kms:")])
    error_message = "No role has a right to a key."
  }

  assert {
    condition     = output.url == "s3://acme-backups/postgres"
    error_message = "The URL names what is known."
  }

  assert {
    condition     = alltrue([for role in values(aws_iam_role.backups) : role.permissions_boundary == null])
    error_message = "No boundary, unless one is asked for."
  }
}

run "a_key_for_each_object" {
  variables {
    kms_key = { arn = "arn:aws:kms:eu-central-1:123456789012:key/1" }
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.backups["auditor"].policy).Statement : statement if statement.Sid == "Decrypt"] == [{
      Sid      = "Decrypt"
      Effect   = "Allow"
      Action   = "kms:Decrypt"
      Resource = "arn:aws:kms:eu-central-1:123456789012:key/1"
      Condition = {
        StringLike = {
          "kms:EncryptionContext:aws:s3:arn" = ["arn:aws:s3:::acme-backups/postgres/manifests/*", "arn:aws:s3:::acme-backups/postgres/attestations/*", "arn:aws:s3:::acme-backups/postgres/pruned/*"]
        }
      }
    }]
    error_message = "Rights to the key go by prefix."
  }
}

run "a_key_for_the_bucket" {
  variables {
    kms_key = { arn = "arn:aws:kms:eu-central-1:123456789012:key/1", bucket_key = true }
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.backups["writer"].policy).Statement :
      statement.Action => statement.Condition.StringLike["kms:EncryptionContext:aws:s3:arn"] if startswith(statement.Action, "kms:")
    } == { "kms:GenerateDataKey" = ["arn:aws:s3:::acme-backups"], "kms:Decrypt" = ["arn:aws:s3:::acme-backups"] }
    error_message = "With a bucket key, S3 names the bucket to KMS."
  }
}

run "keys_that_sign" {
  variables {
    signing_keys = { writer = "arn:aws:kms:eu-central-1:123456789012:key/1", pruner = "arn:aws:kms:eu-central-1:123456789012:key/2" }
  }

  assert {
    condition = {
      for role, policy in aws_iam_role_policy.backups : role => [
        for statement in jsondecode(policy.policy).Statement : [statement.Action, statement.Resource] if statement.Sid == "Sign"
      ]
      } == {
      writer   = [[["kms:GetPublicKey", "kms:Sign"], "arn:aws:kms:eu-central-1:123456789012:key/1"]]
      restorer = []
      auditor  = []
      pruner   = [[["kms:GetPublicKey", "kms:Sign"], "arn:aws:kms:eu-central-1:123456789012:key/2"]]
    }
    error_message = "Each role signs with its own key, and with no other."
  }
}

run "a_key_that_signs_for_the_auditor" {
  command = plan

  variables {
    signing_keys = { auditor = "arn:aws:kms:eu-central-1:123456789012:key/1" }
  }

  expect_failures = [var.signing_keys]
}

run "a_key_that_signs_by_its_alias" {
  command = plan

  variables {
    signing_keys = { writer = "arn:aws:kms:eu-central-1:123456789012:alias/signing" }
  }

  expect_failures = [var.signing_keys]
}

run "everything_else" {
  variables {
    prefix               = "db/prod"
    region               = "eu-west-1"
    kms_key              = { arn = "arn:aws:kms:eu-west-1:123456789012:key/1" }
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
    cluster              = "blue"
    databases            = { "odd name" = "host=db dbname='odd name'" }
    tags                 = { team = "data" }
  }

  assert {
    condition     = alltrue([for policy in values(aws_iam_role_policy.backups) : !strcontains(policy.policy, "postgres/")])
    error_message = "No role has a right to another prefix."
  }

  assert {
    condition     = output.pgstow_toml == <<-EOT
      [defaults]
      cluster = "blue"

      [destinations.offsite]
      url = "s3://acme-backups/db/prod?region=eu-west-1&kms_key=arn:aws:kms:eu-west-1:123456789012:key/1"

      [databases."odd name"]
      conninfo = "host=db dbname='odd name'"
      destinations = ["offsite"]
    EOT
    error_message = "The printed pgstow.toml has what was asked for."
  }

  assert {
    condition     = alltrue([for role in values(aws_iam_role.backups) : role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary" && role.tags["team"] == "data"])
    error_message = "Every role has the boundary and the tags."
  }
}

run "services" {
  variables {
    trusted_by = {
      writer = { ec2 = true, ecs = true, pod_identity = true }
      pruner = { ecs = true }
    }
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role.backups["writer"].assume_role_policy).Statement : statement.Principal.Service] == [
      "ec2.amazonaws.com", "ecs-tasks.amazonaws.com", "pods.eks.amazonaws.com",
    ]
    error_message = "All three services may take the writer."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role.backups["writer"].assume_role_policy).Statement : statement.Action] == [
      "sts:AssumeRole", "sts:AssumeRole", ["sts:AssumeRole", "sts:TagSession"],
    ]
    error_message = "EKS Pod Identity tags its sessions."
  }

  assert {
    condition = alltrue([
      for statement in slice(jsondecode(aws_iam_role.backups["writer"].assume_role_policy).Statement, 1, 3) :
      statement.Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    ])
    error_message = "ECS and EKS may take it for this account alone."
  }

  assert {
    condition     = output.instance_profiles == { writer = "acme-backups-writer" } && keys(output.role_arns) == ["pruner", "writer"]
    error_message = "Two roles, of which one is for EC2."
  }
}

run "tokens" {
  variables {
    trusted_by = {
      restorer = {
        github = {
          provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
          subjects     = ["repo:acme/ops:ref:refs/heads/main", "repo:acme/drills:environment:*"]
        }
        irsa = {
          provider_arn     = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC"
          service_accounts = ["backup:pgstow"]
        }
      }
    }
  }

  assert {
    condition = jsondecode(aws_iam_role.backups["restorer"].assume_role_policy).Statement[0] == {
      Sid       = "GitHub"
      Effect    = "Allow"
      Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = { "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com" }
        StringLike   = { "token.actions.githubusercontent.com:sub" = ["repo:acme/ops:ref:refs/heads/main", "repo:acme/drills:environment:*"] }
      }
    }
    error_message = "GitHub's tokens are held to audience and subject."
  }

  assert {
    condition = jsondecode(aws_iam_role.backups["restorer"].assume_role_policy).Statement[1] == {
      Sid       = "IRSA"
      Effect    = "Allow"
      Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC" }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "oidc.eks.eu-central-1.amazonaws.com/id/ABC:aud" = "sts.amazonaws.com"
          "oidc.eks.eu-central-1.amazonaws.com/id/ABC:sub" = ["system:serviceaccount:backup:pgstow"]
        }
      }
    }
    error_message = "The cluster's tokens are held to audience and service account."
  }

  assert {
    condition     = length(jsondecode(aws_iam_role.backups["restorer"].assume_role_policy).Statement) == 2 && length(aws_iam_instance_profile.backups) == 0
    error_message = "Nobody else."
  }
}

run "principals" {
  variables {
    trusted_by = { auditor = { principals = ["arn:aws:iam::210987654321:role/audit"] } }
  }

  assert {
    condition     = jsondecode(aws_iam_role.backups["auditor"].assume_role_policy).Statement[*].Principal == [{ AWS = ["arn:aws:iam::210987654321:role/audit"] }]
    error_message = "The named role may take it, and nobody else."
  }
}

run "no_roles" {
  variables {
    trusted_by = {}
  }

  assert {
    condition     = length(aws_iam_role.backups) == 0 && output.role_arns == {}
    error_message = "No roles, if they are made elsewhere."
  }
}

run "an_unknown_role" {
  command = plan

  variables {
    trusted_by = { admin = { ec2 = true } }
  }

  expect_failures = [var.trusted_by]
}

run "a_role_for_nobody" {
  command = plan

  variables {
    trusted_by = { writer = {} }
  }

  expect_failures = [var.trusted_by]
}

run "any_repository_of_github" {
  command = plan

  variables {
    trusted_by = {
      writer = {
        github = {
          provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
          subjects     = ["repo:acme/*"]
        }
      }
    }
  }

  expect_failures = [var.trusted_by]
}

run "any_service_account" {
  command = plan

  variables {
    trusted_by = {
      writer = {
        irsa = {
          provider_arn     = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC"
          service_accounts = ["backup:*"]
        }
      }
    }
  }

  expect_failures = [var.trusted_by]
}

run "a_provider_by_its_url" {
  command = plan

  variables {
    trusted_by = {
      writer = {
        github = {
          provider_arn = "https://token.actions.githubusercontent.com"
          subjects     = ["repo:acme/ops:ref:refs/heads/main"]
        }
      }
    }
  }

  expect_failures = [var.trusted_by]
}

run "anybody" {
  command = plan

  variables {
    trusted_by = { restorer = { principals = ["*"] } }
  }

  expect_failures = [var.trusted_by]
}

run "a_bucket_by_its_arn" {
  command = plan

  variables {
    bucket_name = "arn:aws:s3:::acme-backups"
  }

  expect_failures = [var.bucket_name]
}

run "a_prefix_with_a_wildcard" {
  command = plan

  variables {
    prefix = "post*"
  }

  expect_failures = [var.prefix]
}

run "a_key_by_its_alias" {
  command = plan

  variables {
    kms_key = { arn = "alias/mine" }
  }

  expect_failures = [var.kms_key]
}

run "a_boundary_by_its_name" {
  command = plan

  variables {
    permissions_boundary = "boundary"
  }

  expect_failures = [var.permissions_boundary]
}
