variable "bucket_name" {
  description = "Name of the bucket, which exists already. The names of the roles begin with it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,49}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must have 3 to 51 lower-case letters, digits, dots and hyphens, and begin and end with a letter or a digit."
  }
}

variable "prefix" {
  description = "Folder in the bucket for all of pgstow's objects. Don't begin or end it with a slash."
  type        = string
  default     = "postgres"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.prefix))
    error_message = "prefix must be folder names of letters, digits, “_”, “.” and “-”, with single slashes between them and none at the ends."
  }
}

variable "region" {
  description = "The bucket's region, for the outputs url and pgstow_toml. If null, the AWS SDK finds the region."
  type        = string
  default     = null
}

variable "kms_key" {
  description = <<-EOT
    The KMS key that the bucket encrypts with. If the bucket uses an S3 Bucket Key, set bucket_key to true. The key's policy must either
    leave the decision to the account's IAM policies, or name the roles. Null if the bucket encrypts without KMS.
  EOT
  type = object({
    arn        = string
    bucket_key = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.kms_key == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key.arn))
    error_message = "kms_key.arn must be a key's ARN, not an alias."
  }
}

variable "signing_keys" {
  description = <<-EOT
    The KMS key with which each role signs, by the role's name: writer, restorer or pruner. Give the keys' ARNs. The roles may sign, and may
    read the public key. Give each role a key of its own.
  EOT
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.signing_keys), ["writer", "restorer", "pruner"])) == 0
    error_message = "signing_keys has a role other than writer, restorer and pruner."
  }

  validation {
    condition     = alltrue([for arn in values(var.signing_keys) : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", arn))])
    error_message = "signing_keys must be ARNs of keys, not aliases."
  }
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary for the roles, if your account demands one. Null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.", var.permissions_boundary))
    error_message = "permissions_boundary must be a policy's ARN."
  }
}

variable "trusted_by" {
  description = <<-EOT
    The roles to make, and who may assume each role. The names are writer, restorer, auditor and pruner. Leave out the roles that you
    don't need.
    - ec2, ecs, pod_identity: if true, EC2 instances, ECS tasks, or pods with EKS Pod Identity may assume the role, if they are in this
      account
    - github: for GitHub Actions, the ARN of GitHub's OIDC provider in this account, and subjects such as
      "repo:acme/ops:ref:refs/heads/main"
    - irsa: for pods with IAM roles for service accounts (IRSA), the ARN of an EKS cluster's OIDC provider, and service accounts as
      "namespace:name"
    - principals: ARNs of other roles or users
  EOT
  type = map(object({
    ec2          = optional(bool, false)
    ecs          = optional(bool, false)
    pod_identity = optional(bool, false)
    github = optional(object({
      provider_arn = string
      subjects     = list(string)
    }))
    irsa = optional(object({
      provider_arn     = string
      service_accounts = list(string)
    }))
    principals = optional(list(string), [])
  }))

  validation {
    condition     = length(setsubtract(keys(var.trusted_by), ["writer", "restorer", "auditor", "pruner"])) == 0
    error_message = "trusted_by has a role other than writer, restorer, auditor and pruner."
  }

  validation {
    condition = alltrue([
      for trust in values(var.trusted_by) :
      trust.ec2 || trust.ecs || trust.pod_identity || trust.github != null || trust.irsa != null || length(trust.principals) > 0
    ])
    error_message = "Each role in trusted_by needs somebody who may take it: ec2, ecs, pod_identity, github, irsa or principals."
  }

  validation {
    condition = alltrue(flatten([
      for trust in values(var.trusted_by) : [
        for subject in try(trust.github.subjects, []) : can(regex("^repo:[^/*?]+/[^/*?:]+:.", subject))
      ]
    ]))
    error_message = "Each subject in github must name one repository, as in repo:acme/ops:ref:refs/heads/main: a wildcard there would let any repository in."
  }

  validation {
    condition = alltrue(flatten([
      for trust in values(var.trusted_by) : [
        for account in try(trust.irsa.service_accounts, []) : can(regex("^[a-z0-9-]+:[a-z0-9.-]+$", account))
      ]
    ]))
    error_message = "Each service account in irsa must be namespace:name, without wildcards."
  }

  validation {
    condition = alltrue(flatten([
      for trust in values(var.trusted_by) : [
        for arn in compact([try(trust.github.provider_arn, null), try(trust.irsa.provider_arn, null)]) :
        can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.", arn))
      ]
    ]))
    error_message = "provider_arn must be the ARN of an IAM OIDC provider, like arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com."
  }

  validation {
    condition     = alltrue(flatten([for trust in values(var.trusted_by) : [for arn in trust.principals : can(regex("^arn:[a-z-]+:(iam|sts)::[0-9]{12}:.", arn))]]))
    error_message = "principals must be ARNs of IAM, without wildcards for the account."
  }
}

variable "cluster" {
  description = "Name of the PostgreSQL server in the backups, for the output pgstow_toml."
  type        = string
  default     = "prod"
}

variable "databases" {
  description = "The databases in the output pgstow_toml. Give a libpq connection string for each database, without a password."
  type        = map(string)
  default     = { shop = "service=shop" }
}

variable "tags" {
  description = "Tags for every resource that can have tags."
  type        = map(string)
  default     = {}
}
