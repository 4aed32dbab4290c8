# The task and its schedule by each variable, against a provider that plans and applies nothing real.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/pgstow/pgstow" }
  }

  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/pgstow" }
  }

  mock_resource "aws_ecs_task_definition" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/pgstow:1" }
  }
}

variables {
  image              = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/pgstow:0.1.0"
  store_url          = "s3://acme-backups/postgres?region=eu-central-1"
  task_role_arn      = "arn:aws:iam::123456789012:role/acme-backups-writer"
  environment        = { PGHOST = "db.example.com", PGUSER = "backup", PGDATABASE = "shop" }
  subnet_ids         = ["subnet-1"]
  security_group_ids = ["sg-1"]
}

run "defaults" {
  assert {
    condition = (
      aws_scheduler_schedule.backups.schedule_expression == "cron(30 2 * * ? *)"
      && aws_scheduler_schedule.backups.schedule_expression_timezone == "UTC"
      && aws_scheduler_schedule.backups.flexible_time_window[0].mode == "FLEXIBLE"
      && aws_scheduler_schedule.backups.flexible_time_window[0].maximum_window_in_minutes == 30
    )
    error_message = "Nightly, within half an hour."
  }

  assert {
    condition = (
      aws_scheduler_schedule.backups.target[0].ecs_parameters[0].launch_type == "FARGATE"
      && aws_scheduler_schedule.backups.target[0].ecs_parameters[0].task_count == 1
      && !aws_scheduler_schedule.backups.target[0].ecs_parameters[0].network_configuration[0].assign_public_ip
      && aws_scheduler_schedule.backups.target[0].ecs_parameters[0].network_configuration[0].subnets == toset(["subnet-1"])
      && aws_scheduler_schedule.backups.target[0].ecs_parameters[0].network_configuration[0].security_groups == toset(["sg-1"])
    )
    error_message = "One task, in the private network."
  }

  assert {
    condition     = aws_ecs_task_definition.backups.cpu == "1024" && aws_ecs_task_definition.backups.memory == "2048" && aws_ecs_task_definition.backups.task_role_arn == "arn:aws:iam::123456789012:role/acme-backups-writer"
    error_message = "The task acts as the writer."
  }

  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.backups.container_definitions)[0].readonlyRootFilesystem
      && jsondecode(aws_ecs_task_definition.backups.container_definitions)[0].linuxParameters.capabilities.drop == ["ALL"]
      && jsondecode(aws_ecs_task_definition.backups.container_definitions)[0].mountPoints[0].containerPath == "/spool"
      && jsondecode(aws_ecs_task_definition.backups.container_definitions)[0].command == ["backup"]
    )
    error_message = "Nothing but the spool can be written."
  }

  assert {
    condition = { for entry in jsondecode(aws_ecs_task_definition.backups.container_definitions)[0].environment : entry.name => entry.value } == {
      PGSTOW_STORE = "s3://acme-backups/postgres?region=eu-central-1"
      PGHOST       = "db.example.com"
      PGUSER       = "backup"
      PGDATABASE   = "shop"
    }
    error_message = "pgstow learns where from and where to."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.schedule.policy).Statement[1].Resource == ["arn:aws:iam::123456789012:role/acme-backups-writer", "arn:aws:iam::123456789012:role/made"]
    error_message = "The schedule may give the task these two roles."
  }

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.execution.policy).Statement : statement.Sid => statement.Resource } == {
      Log         = "arn:aws:logs:eu-central-1:123456789012:log-group:/pgstow/pgstow:*"
      Pull        = "arn:aws:ecr:eu-central-1:123456789012:repository/pgstow"
      LogInToPull = "*"
    }
    error_message = "ECS may write this log and pull this image; no secret, if none is named."
  }

  assert {
    condition     = aws_cloudwatch_log_group.backups.retention_in_days == 365 && output.log_group == "/pgstow/pgstow"
    error_message = "The output is kept for a year."
  }
}

run "everything_else" {
  variables {
    name    = "shop"
    command = ["backup", "--all-databases"]
    secrets = {
      PGPASSWORD = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop-a1b2c3:password::"
    }
    secrets_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/1"]
    schedule             = "rate(6 hours)"
    time_zone            = "Europe/Berlin"
    start_within_minutes = 5
    cpu                  = 4096
    memory               = 8192
    log_days             = 90
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
    tags                 = { team = "data" }
  }

  assert {
    condition     = aws_ecs_cluster.backups.name == "shop" && aws_iam_role.execution.name == "shop-execution" && output.log_group == "/pgstow/shop"
    error_message = "Everything has the name that was asked for."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.backups.container_definitions)[0].secrets == [{ name = "PGPASSWORD", valueFrom = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop-a1b2c3:password::" }]
    error_message = "ECS puts the secret into the environment."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.backups.container_definitions)[0].command == ["backup", "--all-databases"]
    error_message = "pgstow gets its arguments."
  }

  assert {
    condition = slice(jsondecode(aws_iam_role_policy.execution.policy).Statement, 3, 5) == [
      { Sid = "ReadSecrets", Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop-a1b2c3"] },
      { Sid = "DecryptSecrets", Effect = "Allow", Action = "kms:Decrypt", Resource = ["arn:aws:kms:eu-central-1:123456789012:key/1"] },
    ]
    error_message = "ECS may read this secret, and no other."
  }

  assert {
    condition = (
      aws_scheduler_schedule.backups.schedule_expression == "rate(6 hours)"
      && aws_scheduler_schedule.backups.schedule_expression_timezone == "Europe/Berlin"
      && aws_scheduler_schedule.backups.flexible_time_window[0].maximum_window_in_minutes == 5
    )
    error_message = "The schedule is the one that was asked for."
  }

  assert {
    condition     = aws_ecs_task_definition.backups.cpu == "4096" && aws_ecs_task_definition.backups.memory == "8192" && aws_cloudwatch_log_group.backups.retention_in_days == 90
    error_message = "The task is as large as was asked for."
  }

  assert {
    condition     = aws_ecs_task_definition.backups.tags["team"] == "data" && aws_iam_role.schedule.tags["team"] == "data"
    error_message = "Everything is tagged."
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.execution, aws_iam_role.schedule] : role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"])
    error_message = "Both roles have the boundary."
  }
}

run "an_image_of_another_registry" {
  variables {
    image = "ghcr.io/acme/pgstow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.execution.policy).Statement : statement.Sid] == ["Log"]
    error_message = "No right to ECR, if the image isn't there."
  }
}

run "a_name_with_a_slash" {
  command = plan

  variables {
    name = "acme/shop"
  }

  expect_failures = [var.name]
}

run "an_image_that_changes" {
  command = plan

  variables {
    image = "pgstow:latest"
  }

  expect_failures = [var.image]
}

run "a_store_without_a_scheme" {
  command = plan

  variables {
    store_url = "acme-backups/postgres"
  }

  expect_failures = [var.store_url]
}

run "a_role_by_its_name" {
  command = plan

  variables {
    task_role_arn = "acme-backups-writer"
  }

  expect_failures = [var.task_role_arn]
}

run "a_password_for_all_to_see" {
  command = plan

  variables {
    environment = { PGHOST = "db.example.com", PGPASSWORD = "hunter2" }
  }

  expect_failures = [var.environment]
}

run "a_password_in_place_of_its_secret" {
  command = plan

  variables {
    secrets = { PGPASSWORD = "hunter2" }
  }

  expect_failures = [var.secrets]
}

run "a_crontab_s_line" {
  command = plan

  variables {
    schedule = "30 2 * * *"
  }

  expect_failures = [var.schedule]
}

run "no_room_to_start" {
  command = plan

  variables {
    start_within_minutes = 0
  }

  expect_failures = [var.start_within_minutes]
}

run "no_subnet" {
  command = plan

  variables {
    subnet_ids = []
  }

  expect_failures = [var.subnet_ids]
}

run "no_security_group" {
  command = plan

  variables {
    security_group_ids = []
  }

  expect_failures = [var.security_group_ids]
}

run "a_size_that_fargate_hasn_t" {
  command = plan

  variables {
    cpu    = 1000
    memory = 2000
  }

  expect_failures = [var.cpu]
}

run "more_memory_than_fargate_has" {
  command = plan

  variables {
    cpu    = 1024
    memory = 16384
  }

  expect_failures = [var.memory]
}

run "logs_for_an_odd_time" {
  command = plan

  variables {
    log_days = 31
  }

  expect_failures = [var.log_days]
}

run "a_boundary_by_its_name" {
  command = plan

  variables {
    permissions_boundary = "boundary"
  }

  expect_failures = [var.permissions_boundary]
}
