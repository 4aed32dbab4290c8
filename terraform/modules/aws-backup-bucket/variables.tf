variable "bucket_name" {
  description = "Name of the bucket. Other names begin with this name: those of the roles, of the key's alias and of the bucket for access logs."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,49}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must have 3 to 51 lower-case letters, digits and hyphens, and begin and end with a letter or a digit."
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

variable "kms_key" {
  description = <<-EOT
    A KMS key of your own to encrypt with, in the bucket's region. The key's policy must either leave the decision to the account's IAM
    policies, or name the roles. If null, the module makes a key.
  EOT
  type = object({
    arn = string
  })
  default = null

  validation {
    condition     = var.kms_key == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key.arn))
    error_message = "kms_key.arn must be a key's ARN, not an alias."
  }
}

variable "signing_keys" {
  description = <<-EOT
    The roles for which the module makes a KMS key that signs: writer, restorer or pruner. The output signing_keys has the keys for
    pgstow's --sign-with.
  EOT
  type        = set(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.signing_keys, ["writer", "restorer", "pruner"])) == 0
    error_message = "signing_keys has a role other than writer, restorer and pruner."
  }
}

variable "object_lock" {
  description = <<-EOT
    The lock of each new object: for this number of days, the object can't be deleted. GOVERNANCE mode has an exception: an
    administrator with s3:BypassGovernanceRetention can delete the object. COMPLIANCE mode has no exception, not even for the account's
    root user. Null for a bucket without Object Lock. To add or remove the lock later, you need a new bucket.
  EOT
  type = object({
    mode = string
    days = number
  })
  default = {
    mode = "GOVERNANCE"
    days = 30
  }

  validation {
    condition     = var.object_lock == null || contains(["GOVERNANCE", "COMPLIANCE"], try(var.object_lock.mode, ""))
    error_message = "object_lock.mode must be GOVERNANCE or COMPLIANCE."
  }

  validation {
    condition     = var.object_lock == null || try(var.object_lock.days >= 1 && var.object_lock.days <= 36500 && floor(var.object_lock.days) == var.object_lock.days, false)
    error_message = "object_lock.days must be a whole number from 1 to 36500."
  }
}

variable "transitions" {
  description = <<-EOT
    When objects under data/ move to colder storage classes. List the soonest move first. Manifests stay in the standard class.
    INTELLIGENT_TIERING has no minimum duration. In the other classes, you pay for a minimum duration, even if an object is deleted
    sooner. The minimum is counted from the move: 30 days in STANDARD_IA and ONEZONE_IA, 90 in GLACIER_IR and GLACIER, and 180 in
    DEEP_ARCHIVE. Use these classes only for backups that pgstow prune keeps at least that long. Before pgstow can read objects in
    GLACIER and DEEP_ARCHIVE, S3 must restore them, which takes hours.
  EOT
  type = list(object({
    days          = number
    storage_class = string
  }))
  default = [{ days = 0, storage_class = "INTELLIGENT_TIERING" }]

  validation {
    condition = alltrue([
      for step in var.transitions :
      contains(["STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"], step.storage_class)
    ])
    error_message = "Each storage_class must be STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR, GLACIER or DEEP_ARCHIVE."
  }

  validation {
    condition = alltrue([
      for step in var.transitions :
      step.days >= (contains(["STANDARD_IA", "ONEZONE_IA"], step.storage_class) ? 30 : 0) && floor(step.days) == step.days
    ])
    error_message = "Each transition's days must be a whole number, of 30 at least for STANDARD_IA and ONEZONE_IA."
  }

  validation {
    condition     = alltrue([for at in range(1, max(1, length(var.transitions))) : var.transitions[at].days > var.transitions[at - 1].days])
    error_message = "transitions must be in the order of their days, each later than the one before."
  }
}

variable "noncurrent_days" {
  description = <<-EOT
    Days for which a deleted object can be brought back. During this time, S3 keeps the object's version, hidden by a delete marker. If
    a lock lasts longer, S3 keeps the version until the lock ends.
  EOT
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days must be a whole number of 1 at least."
  }
}

variable "access_log_bucket" {
  description = "Name of an existing bucket for S3's access logs. If null, the module makes a bucket, named after bucket_name."
  type        = string
  default     = null
}

variable "access_log_days" {
  description = "Days after which access logs are deleted. This input counts only if the module makes the log bucket."
  type        = number
  default     = 365

  validation {
    condition     = var.access_log_days >= 1 && floor(var.access_log_days) == var.access_log_days
    error_message = "access_log_days must be a whole number of 1 at least."
  }
}

variable "replication" {
  description = <<-EOT
    The bucket to which S3 copies every new object, and the KMS key of that bucket. The best choice is a bucket that this module made in
    another region and account. Deletions aren't copied. Null for no copy.
  EOT
  type = object({
    bucket_arn    = string
    kms_key_arn   = string
    storage_class = optional(string, "STANDARD")
  })
  default = null

  validation {
    condition     = var.replication == null || can(regex("^arn:[a-z-]+:s3:::", var.replication.bucket_arn))
    error_message = "replication.bucket_arn must be a bucket's ARN, such as the output bucket_arn of this module."
  }

  validation {
    condition     = var.replication == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.replication.kms_key_arn))
    error_message = "replication.kms_key_arn must be a key's ARN, such as the output kms_key_arn of this module."
  }
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary for the roles, if your account demands one. Null for none."
  type        = string
  default     = null
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
