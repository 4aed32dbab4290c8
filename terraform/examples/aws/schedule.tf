# A nightly backup from a container. If a host with the instance profile backs up by systemd or cron, leave this file out.

module "nightly" {
  source = "../../modules/aws-scheduled-backup"

  image         = var.image
  store_url     = module.backups.url
  task_role_arn = module.backups.role_arns["writer"]

  environment = {
    PGHOST     = var.database_host
    PGUSER     = "backup"
    PGDATABASE = "shop"
    PGSSLMODE  = "require"
  }

  secrets            = { PGPASSWORD = var.password_secret_arn }
  subnet_ids         = var.subnet_ids
  security_group_ids = var.security_group_ids
  tags               = { purpose = "backups" }
}

variable "image" {
  description = "The image built from pgstow's Dockerfile, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/pgstow:0.1.0."
  type        = string
}

variable "database_host" {
  description = "Host name of the PostgreSQL server."
  type        = string
}

variable "password_secret_arn" {
  description = "ARN of the secret in Secrets Manager with the password of the PostgreSQL role backup."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets from which the task can reach the PostgreSQL server."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups that the PostgreSQL server lets in."
  type        = list(string)
}
