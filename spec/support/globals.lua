-- SPDX-License-Identifier: MIT
--
-- Gives a spec file the interpreter's own globals.
--
-- busted runs each spec file in an environment of its own, and a mapped function takes an environment of its own along
-- to the workers. So a spec that maps functions takes from busted what it needs and then goes back to the globals that
-- every script has:
--
--     local describe, it, assert = describe, it, assert
--     require("spec.support.globals")()
--
-- Functions that are mapped must not use that `assert`: it is luassert's, and drags all of it along.

--- To be called at the top of the file, before any function is made.
return function()
  if setfenv then
    setfenv(2, _G)
    return
  end
  local file = debug.getinfo(2, "f").func
  local number = 1
  while debug.getupvalue(file, number) ~= "_ENV" do
    number = number + 1
  end
  debug.setupvalue(file, number, _G)
end
