# `terraform test` asks no subscription: every provider is a mock.

mock_provider "azapi" {}

mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = { subscription_id = "00000000-0000-0000-0000-000000000001" }
  }
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/s/resourceGroups/runners/providers/Microsoft.ManagedIdentity/userAssignedIdentities/mayfly-pull"
      principal_id = "00000000-0000-0000-0000-0000000000aa"
    }
  }
  mock_resource "azurerm_container_app_environment" {
    defaults = { id = "/subscriptions/s/resourceGroups/runners/providers/Microsoft.App/managedEnvironments/mayfly-executors" }
  }
}

variables {
  location            = "norwayeast"
  resource_group_name = "runners"
  control_plane = {
    url        = "https://mayfly.example.com"
    principals = { mayfly = "00000000-0000-0000-0000-0000000000cc" }
  }
  registry = {
    server = "example.azurecr.io"
    acr    = { id = "/subscriptions/s/resourceGroups/images/providers/Microsoft.ContainerRegistry/registries/example" }
  }
  pools = {
    linux = { image = "example.azurecr.io/mayfly-executor:0.1.0" }
    gpu = {
      image            = "example.azurecr.io/mayfly-executor@sha256:0000"
      cpu              = 8
      memory_gib       = 56
      workload_profile = "gpu"
      longest_seconds  = 3600
      variants         = ["a100", "l4"]
      environment      = { LANG = "C.UTF-8" }
      job_identity_ids = ["/subscriptions/s/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/reader"]
    }
  }
  workload_profiles = { gpu = { type = "NC24-A100" } }
}

run "a_job_is_started_by_the_control_plane_and_by_nothing_else" {
  assert {
    condition     = toset([for job in azapi_resource.job : job.body.properties.configuration.triggerType]) == toset(["Manual"])
    error_message = "a trigger beside the control plane"
  }
  assert {
    condition = alltrue([for pair, given in azurerm_role_assignment.control_plane :
      given.scope == azapi_resource.job[split("/", pair)[0]].id && given.role_definition_name == "Container Apps Jobs Operator" && given.principal_id == "00000000-0000-0000-0000-0000000000cc"
    ]) && length(azurerm_role_assignment.control_plane) == 2
    error_message = "the control plane may do something else, or somewhere else"
  }
}

run "no_job_is_tried_twice" {
  assert {
    condition     = alltrue([for job in azapi_resource.job : job.body.properties.configuration.replicaRetryLimit == 0])
    error_message = "a second try with a ticket that is good once"
  }
}

run "no_job_can_take_the_token_of_the_identity_that_pulls" {
  assert {
    condition = alltrue([for job in azapi_resource.job : alltrue([
      for setting in job.body.properties.configuration.identitySettings : setting.lifecycle == "None"
      if setting.identity == azurerm_user_assigned_identity.pull.id
    ])])
    error_message = "the pull identity is within reach of a job"
  }
  # One without a setting has the lifecycle All.
  assert {
    condition = alltrue([for job in azapi_resource.job :
      toset(job.identity[0].identity_ids) == toset(job.body.properties.configuration.identitySettings[*].identity)
    ])
    error_message = "an identity of the job has no lifecycle setting"
  }
  assert {
    condition     = azapi_resource.job["gpu"].body.properties.configuration.identitySettings[1].lifecycle == "Main"
    error_message = "the pool's own identity is not within reach of its jobs"
  }
}

run "a_job_starts_an_executor_of_its_pool" {
  assert {
    condition     = azapi_resource.job["gpu"].body.properties.template.containers[0].args == ["--pool", "gpu", "--config", "/etc/mayfly/executor.toml", "--variant", "a100", "--variant", "l4"]
    error_message = "other arguments"
  }
  assert {
    condition     = [for variable in azapi_resource.job["gpu"].body.properties.template.containers[0].env : variable.name] == ["MAYFLY_URL", "LANG"]
    error_message = "other variables"
  }
  assert {
    condition     = azapi_resource.job["linux"].body.properties.template.containers[0].resources == { cpu = 2, memory = "4Gi" }
    error_message = "the Consumption profile gives two GiB for each core"
  }
  assert {
    condition     = azapi_resource.job["gpu"].body.properties.template.containers[0].resources == { cpu = 8, memory = "56Gi" }
    error_message = "a dedicated profile gives what is asked for"
  }
}

run "the_environment_has_workload_profiles_in_its_own_subnet" {
  assert {
    condition     = [for profile in azurerm_container_app_environment.executors.workload_profile : profile.name] == ["Consumption", "gpu"]
    error_message = "not an environment with workload profiles"
  }
  assert {
    condition     = azurerm_container_app_environment.executors.internal_load_balancer_enabled
    error_message = "an address of executors in the internet"
  }
  assert {
    condition     = azurerm_container_app_environment.executors.infrastructure_subnet_id == azurerm_subnet.executors[0].id
    error_message = "another subnet"
  }
}

run "without_principals_nobody_may_start_a_job" {
  variables {
    control_plane = { url = "https://mayfly.example.com" }
  }
  assert {
    condition     = length(azurerm_role_assignment.control_plane) == 0
    error_message = "somebody may"
  }
}

run "service_bus_has_a_subscription_for_each_pool" {
  variables {
    service_bus = { namespace_id = "/subscriptions/s/resourceGroups/bus/providers/Microsoft.ServiceBus/namespaces/example" }
  }
  assert {
    condition     = length(module.service_bus) == 1
    error_message = "no topic"
  }
}
