# Who may take which role, and which roles there are. What each may do is tried in tests/terraform.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/0" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made" }
  }
}

variables {
  bucket_name = "acme-backups"
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
