variable "name" {
  description = "Name of the ECS cluster, the task and the schedule. The names of the log group and the roles contain this name."
  type        = string
  default     = "pgstow"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,49}$", var.name))
    error_message = "name must have 1 to 50 letters, digits and hyphens, and begin with a letter."
  }
}

variable "image" {
  description = "The container image, built from the Dockerfile of this repository. Give a digest, or a tag that always names the same image."
  type        = string

  validation {
    condition     = can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]*)$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must have a tag other than latest, or a digest."
  }
}

variable "store_url" {
  description = "The store for the backups: the output url of aws-backup-bucket."
  type        = string

  validation {
    condition     = can(regex("^(s3|gs)://", var.store_url))
    error_message = "store_url must begin with s3:// or gs://."
  }
}

variable "task_role_arn" {
  description = "The role of the task: the writer of aws-backup-bucket, with ecs = true in trusted_by."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/", var.task_role_arn))
    error_message = "task_role_arn must be a role's ARN."
  }
}

variable "command" {
  description = "The arguments of pgstow."
  type        = list(string)
  default     = ["backup"]
}

variable "environment" {
  description = "Variables for libpq: PGHOST, PGUSER, PGDATABASE, PGSSLMODE and so on. Give no secrets here: everybody who can see the task sees these variables."
  type        = map(string)

  validation {
    condition     = !contains(keys(var.environment), "PGPASSWORD")
    error_message = "PGPASSWORD belongs into secrets."
  }
}

variable "secrets" {
  description = "Variables whose values ECS reads from Secrets Manager. Give the ARN of a secret for each variable, such as { PGPASSWORD = \"arn:aws:secretsmanager:…\" }."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for arn in values(var.secrets) : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.", arn))])
    error_message = "secrets must be ARNs of Secrets Manager's secrets."
  }
}

variable "secrets_kms_key_arns" {
  description = "ARNs of the KMS keys that encrypt the secrets, if these keys aren't AWS's own."
  type        = list(string)
  default     = []
}

variable "schedule" {
  description = "When the task runs: cron(…) or rate(…) of EventBridge Scheduler."
  type        = string
  default     = "cron(30 2 * * ? *)"

  validation {
    condition     = can(regex("^(cron|rate)\\(.+\\)$", var.schedule))
    error_message = "schedule must be cron(…) or rate(…)."
  }
}

variable "time_zone" {
  description = "The time zone of the schedule."
  type        = string
  default     = "UTC"
}

variable "start_within_minutes" {
  description = "The task starts at a random moment within this number of minutes after the scheduled time. So it doesn't start at the same time as everybody else's tasks."
  type        = number
  default     = 30

  validation {
    condition     = var.start_within_minutes >= 1 && var.start_within_minutes <= 1440 && floor(var.start_within_minutes) == var.start_within_minutes
    error_message = "start_within_minutes must be a whole number from 1 to 1440."
  }
}

variable "subnet_ids" {
  description = <<-EOT
    Private subnets for the task. From there, the task must reach the PostgreSQL server. The task must also reach S3, KMS, the image's
    registry, Secrets Manager and CloudWatch Logs, by NAT or by VPC endpoints.
  EOT
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids must name a subnet at least."
  }
}

variable "security_group_ids" {
  description = "Security groups of the task. The PostgreSQL server must accept connections from these groups."
  type        = list(string)

  validation {
    condition     = length(var.security_group_ids) > 0
    error_message = "security_group_ids must name a group at least: the default one lets too much out."
  }
}

variable "cpu" {
  description = "Fargate's CPU units: 1024 units are one processor."
  type        = number
  default     = 1024

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu must be 256, 512, 1024, 2048, 4096, 8192 or 16384."
  }
}

variable "memory" {
  description = "Memory in MiB. Fargate allows only certain sizes with each value of cpu. The memory must hold pgstow's --memory, zstd's buffers and pg_dump."
  type        = number
  default     = 2048

  validation {
    condition     = var.memory >= var.cpu && var.memory <= 8 * var.cpu && var.memory >= 512
    error_message = "memory must be 512 MiB at least, and between 1 and 8 MiB for each CPU unit."
  }
}

variable "log_days" {
  description = "Days for which CloudWatch keeps the task's output."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 180, 365, 731, 1827, 3653], var.log_days)
    error_message = "log_days must be 30, 60, 90, 180, 365, 731, 1827 or 3653."
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

variable "tags" {
  description = "Tags for every resource that can have tags."
  type        = map(string)
  default     = {}
}
