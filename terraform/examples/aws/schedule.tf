# Nightly, from a container. Leave this file out where the timer is elsewhere: systemd's or cron's on a host with the instance profile, say.

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
  description = "The PostgreSQL server."
  type        = string
}

variable "password_secret_arn" {
  description = "The secret of Secrets Manager that holds the password of the role backup."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets from which the server can be reached."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups that the server lets in."
  type        = list(string)
}
