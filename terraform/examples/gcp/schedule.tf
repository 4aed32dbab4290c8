# Nightly, from a container. Leave this file out where the timer is elsewhere: a CronJob of GKE with Workload Identity, say.

module "nightly" {
  source = "../../modules/gcp-scheduled-backup"

  project         = var.project
  region          = "europe-west1"
  image           = var.image
  store_url       = module.backups.url
  service_account = module.backups.service_accounts["writer"]

  environment = {
    PGHOST     = var.database_host
    PGUSER     = "backup"
    PGDATABASE = "shop"
    PGSSLMODE  = "require"
  }

  secrets = { PGPASSWORD = var.password_secret }
  network = { network = var.network, subnetwork = var.subnetwork }
  labels  = { purpose = "backups" }
}

variable "image" {
  description = "The image built from pgstow's Dockerfile, such as europe-west1-docker.pkg.dev/PROJECT/tools/pgstow:0.1.0."
  type        = string
}

variable "database_host" {
  description = "The PostgreSQL server."
  type        = string
}

variable "password_secret" {
  description = "The secret of Secret Manager, in the same project, that holds the password of the role backup."
  type        = string
}

variable "network" {
  description = "The VPC network that the server is in."
  type        = string
}

variable "subnetwork" {
  description = "Its subnetwork in europe-west1."
  type        = string
}
