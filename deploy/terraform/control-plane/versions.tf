terraform {
  # 1.11: arguments that are written and never kept in the state.
  required_version = ">= 1.11"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.55, < 5.0" # what its schema was tried with
    }
  }
}
