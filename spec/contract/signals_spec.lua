-- SPDX-License-Identifier: MIT
--
-- Signals that reach the calling process while it waits for its workers, and the end of the program in a callback.

local it, assert = it, assert
require("spec.support.globals")()

local backends = require("spec.support.backends")
local interpreter = require("spec.support.interpreter")

backends.each_size(function(_, backend, workers)
  local environment = { LUMAP_BACKEND = backend, LUMAP_WORKERS = workers }

  it("signals that interrupt what waits cost no result", function()
    -- Being stopped and going on ends system calls early, as a handler would.
    local result = interpreter.run_code(
      [[
        local gates = require "spec.support.gates"
        local own = require("spec.support.processes").own()
        local finished = gates.new()
        os.execute(("(for i in $(seq 60); do kill -STOP %d; kill -CONT %d; kill -WINCH %d; sleep 0.002; done; "
          .. "touch %s) >/dev/null 2>&1 &"):format(own, own, own, finished))
        local pool = parallel.pool()
        local rounds = 0
        repeat
          rounds = rounds + 1
          local list = pool:map(function(x)
            parallel.sleep(0.0005)
            return x * x
          end, parallel.range(1, 20), { chunk = 1 })
          for i = 1, 20 do assert(list[i] == i * i) end
          local future = pool:submit(math.sqrt, 9)
          assert(future:wait(30) and future:get() == 3)
        until gates.is_open(finished)
        gates.remove(finished)
        pool:close()
        pool:join()
        io.write("all there")
      ]],
      { seconds = 60, env = environment }
    )
    assert.same({ stdout = "all there", stderr = "", code = 0 }, result)
  end)

  it("a callback may end the program", function()
    for _, exit in ipairs({ "os.exit(5)", "os.exit(5, true)" }) do
      local result = interpreter.run_code(
        [[
          local pool = parallel.pool()
          local waiting = pool:submit(parallel.sleep, 0)
          pool:submit(math.sqrt, 9):on_done(function() ]] .. exit .. [[ end)
          while true do pool:apply(math.sqrt, 16) end
        ]],
        { seconds = 60, env = environment }
      )
      assert.same({ stdout = "", stderr = "", code = 5 }, result)
    end
  end)
end)
