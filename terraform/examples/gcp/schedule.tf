# A nightly backup from a container. If something else backs up, such as a GKE CronJob with Workload Identity, leave this file out.

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
  description = "Host name of the PostgreSQL server."
  type        = string
}

variable "password_secret" {
  description = "Name of the secret in Secret Manager, in the same project, with the password of the PostgreSQL role backup."
  type        = string
}

variable "network" {
  description = "The VPC network of the PostgreSQL server."
  type        = string
}

variable "subnetwork" {
  description = "A subnetwork of this network in europe-west1."
  type        = string
}
